"""From config sections to the objects that play: game factory, rules of play, prompt, and a policy, made or loaded.

Knows config sections and constructors. Knows nothing about training or Hydra.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from msgrpo_cli.config.prompt import prompt_of
from msgrpo_cli.config.schema import EnvConfig, ModelConfig, RolloutConfig, RunConfig
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.rollout.play import GameFactory, PlayRules

from .conversation import Conversation
from .generation import Generator, Sampling, generate
from .loading import declared_ends, ends_of, load_model, load_tokenizer
from .policy import LanguageAgentPolicy, Precision
from .precision import autocast_dtype, device_for
from .shared_generation import single


def sampling_of(rollout: RolloutConfig) -> Sampling:
    """The sampling settings of training."""
    return Sampling(
        temperature=rollout.temperature,
        max_new_tokens=rollout.max_new_tokens,
        top_p=rollout.top_p,
        top_k=rollout.top_k,
        min_p=rollout.min_p,
        repetition_penalty=rollout.repetition_penalty,
    )


def game_factory(env: EnvConfig, *, evaluation: bool) -> GameFactory:
    """Makes games with the keys of `env`; in evaluation with the game's declared evaluation rewards."""
    return lambda: make_game(env, evaluation=evaluation)


def play_rules(config: RunConfig, *, evaluation: bool) -> PlayRules:
    """How answers become moves; evaluation subtracts no format penalty."""
    return PlayRules(
        env=config.env.name,
        observation=config.prompt.observation,
        invalid_action=config.algo.invalid_action,
        format_penalty=0.0 if evaluation else config.algo.format_penalty,
        max_live_episodes=config.rollout.max_live_episodes,
        history=config.prompt.history,
    )


def conversation_of(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase, declared_ends: Sequence[int]
) -> Conversation:
    """How the config's model reads prompts and ends answers; `declared_ends` are ids that the model declares."""
    named = config.model.end_of_turn
    return Conversation(
        tokenizer,
        chat_template_kwargs=config.model.chat_template_kwargs,
        system_role=config.prompt.system_role,
        date=config.prompt.date,
        end_of_turn=[named] if isinstance(named, str) else named or [],
        declared_ends=declared_ends,
        answer_prefix=config.prompt.answer_prefix,
    )


def load_conversation(config: RunConfig) -> Conversation:
    """The same without loading any weights."""
    return conversation_of(config, load_tokenizer(config.model), declared_ends(config.model))


def language_agent(
    config: RunConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    generator: Generator = generate,
) -> LanguageAgentPolicy:
    """The policy that a config describes, around a loaded model; it computes in the precision that training uses.

    Raises UsageError where the prompts of the config's game do not fit.
    """
    half = autocast_dtype(config.trainer, model.device)
    precision: Precision = partial(torch.autocast, model.device.type, half) if half else nullcontext
    policy = LanguageAgentPolicy(
        model,
        conversation_of(config, tokenizer, ends_of(model.generation_config)),
        prompt_of(config),
        sampling_of(config.rollout),
        max_prompt_tokens=config.rollout.max_prompt_tokens,
        precision=precision,
        generator=generator,
        prefix_memory=config.rollout.prefix_memory * 2**20,
    )
    policy.check(make_game(config.env), config.prompt.observation, config.prompt.history, config.env.name)
    return policy


def load_policy(
    config: RunConfig,
    stored: ModelConfig | Path,
    *,
    generator: Generator | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    merge: bool = False,
) -> LanguageAgentPolicy:
    """The policy that a config describes, with the weights of `stored`: a model section, or a checkpoint's directory.

    Loaded onto the device of training. `generator`: None for the config's own without an engine (`single`).
    `tokenizer`: None for the one that lies beside the weights. `merge`: an adapter is merged into its base. Raises what
    `load_model` and `language_agent` raise.
    """
    if isinstance(stored, Path):
        stored = config.model.model_copy(update={"path": str(stored), "init": "pretrained", "revision": None})
    model, own = load_model(stored, config.seed, merge=merge)
    model.to(device_for(config.trainer))  # type: ignore[arg-type]
    return language_agent(config, model, tokenizer or own, generator or single(config))


def at_temperature(policy: LanguageAgentPolicy, temperature: float | None) -> LanguageAgentPolicy:
    """The same policy at another temperature (None: at its own); they share model and encoded prompts."""
    if temperature is None:
        return policy
    other = copy.copy(policy)
    other.sampling = replace(policy.sampling, temperature=temperature)
    return other
