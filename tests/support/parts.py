"""Parts for tests of the trainer: a small random policy on Frozen Lake and a trainer around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from packaging.version import Version
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from msgrpo_cli.algo.episode_sampling import Draw
from msgrpo_cli.episode import Completion, Episode, Start, Step
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.launch.engine_checks import CONTINUOUS_NEEDS
from msgrpo_cli.models.conversation import Conversation
from msgrpo_cli.models.embedded import make_model, make_tokenizer
from msgrpo_cli.models.generation import Sampling
from msgrpo_cli.models.policy import LanguageAgentPolicy
from msgrpo_cli.rollout.collect import PlayedUpdate, UpdateRules, play_update
from msgrpo_cli.rollout.play import PlayRules
from msgrpo_cli.rollout.prompt import PromptTemplate
from msgrpo_cli.training.settings import MSGRPOConfig
from msgrpo_cli.training.trainer import MSGRPOTrainer

RULES = PlayRules(env="frozenlake", observation="compact", invalid_action="random", format_penalty=1.0)
WITH_CONTINUOUS_BATCHING = pytest.mark.skipif(
    Version(transformers.__version__) < Version(CONTINUOUS_NEEDS), reason=f"needs transformers {CONTINUOUS_NEEDS}"
)


def small_model(seed: int = 0) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Random weights, biased towards nothing: answers of mixed lengths, mostly invalid."""
    tokenizer = make_tokenizer()
    return make_model(tokenizer, seed, hidden=32, layers=2), tokenizer


def sharp_model() -> LlamaForCausalLM:
    """Larger weights than at the start of training, so that the distributions are far from uniform."""
    model, _ = small_model(seed=3)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(8.0)
    return model


def agent(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, temperature: float = 1.0) -> LanguageAgentPolicy:
    return LanguageAgentPolicy(
        model,
        Conversation(tokenizer),
        PromptTemplate(None, "{{ observation }}"),
        Sampling(temperature=temperature, max_new_tokens=6),
        max_prompt_tokens=64,
    )


def lake() -> FrozenLake:
    return FrozenLake(max_steps=4)


def played_update(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, update: int = 1, **rules: Any
) -> PlayedUpdate:
    settings = {"groups_per_update": 3, "group_size": 4, "episode_sampling": "all", "sample_fraction": 1.0, **rules}
    return play_update(update, UpdateRules(seed=0, **settings), lake, agent(model, tokenizer), RULES)


def shared(episodes: Sequence[Episode], advantage_E: Sequence[float] | np.ndarray) -> tuple[np.ndarray, ...]:
    """One advantage for all steps of each episode."""
    return tuple(np.full(len(one.steps), value) for one, value in zip(episodes, advantage_E, strict=True))


def with_advantages(played: PlayedUpdate, advantages: list[float]) -> PlayedUpdate:
    """The same episodes with typed-in advantages, all drawn."""
    count = len(played.episodes)
    chosen = shared(played.episodes, np.resize(np.array(advantages, dtype=np.float64), count))
    draw = Draw(np.ones(count, dtype=bool), np.ones(count))
    return PlayedUpdate(played.update, played.episodes, chosen, draw, 0.0, 1.0)


def one_step_episodes(
    answers: list[list[int]], prompts: list[list[int]], logprobs: list[list[float]], end: int | None = None
) -> list[Episode]:
    """Episodes of one step each, from token ids; an answer that does not end with the token `end` was cut."""
    return [
        Episode(
            env="given",
            start=Start(number, number // 4, number % 4, (0, 1, number // 4, number % 4)),
            steps=(
                Step(
                    "",
                    Completion("", None, tuple(prompt), tuple(answer), tuple(logs), end not in (None, answer[-1])),
                    None,
                    0.0,
                    b"same",
                ),
            ),
            terminated=True,
            truncated=False,
            ended_by="end",
            success=None,
        )
        for number, (answer, prompt, logs) in enumerate(zip(answers, prompts, logprobs, strict=True))
    ]


def trainer_for(
    folder: Path,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    play: Callable[[int], PlayedUpdate],
    reference: LlamaForCausalLM | None = None,
    **arguments: Any,
) -> MSGRPOTrainer:
    settings: dict[str, Any] = {
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 1000,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "max_completion_length": 6,
        "max_grad_norm": 0.0,
        "report_to": "none",
        **arguments,
    }
    return MSGRPOTrainer(model, MSGRPOConfig(output_dir=str(folder), **settings), tokenizer, play, reference=reference)


def first_gradient(trainer: MSGRPOTrainer) -> torch.Tensor:
    """The gradient of the first optimizer step, all parameters in one vector, without taking the step."""
    trainer.create_optimizer()
    trainer.create_scheduler(num_training_steps=10)
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.zero_grad()
    trainer.training_step(trainer.model, {}, None)
    return torch.cat([parameter.grad.flatten() for parameter in trainer.model.parameters()]).clone()


def relative_difference(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).norm() / second.norm())


def given(pairs: list[tuple[list[int], list[int]]]) -> PlayedUpdate:
    """An update of one-step episodes, all drawn, each with an advantage of its own."""
    episodes = one_step_episodes(
        [answer for _, answer in pairs],
        [prompt for prompt, _ in pairs],
        [[-1.0 - 0.1 * i for i in range(len(answer))] for _, answer in pairs],
    )
    advantages = torch.linspace(-1.5, 2.0, len(pairs), dtype=torch.float64).numpy()
    draw = Draw(advantages > -9.0, advantages * 0 + 1)
    return PlayedUpdate(1, tuple(episodes), shared(episodes, advantages), draw, 0.0, 1.0)


def uneven() -> PlayedUpdate:
    """Twelve rows: prompts and answers of unlike lengths, several of them equal."""
    prompts = [[7, 8, 9, 10], [7, 8], [11, 12, 13, 14, 15, 16]]
    answers = [[20, 5], [21, 22, 23, 5], [5]]
    chosen = [(0, 0), (0, 0), (0, 1), (1, 0), (1, 2), (2, 1), (2, 1), (2, 1), (2, 2), (0, 2), (1, 0), (0, 1)]
    return given([(prompts[p], answers[a]) for p, a in chosen])
