"""The Language-Agent Policy: state to prompt, prompt to sampled ids, ids to text, text to action.

Knows prompts, tokens and a transformers model. Knows nothing about rewards, training or files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, Protocol

from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from msgrpo_cli.episode import Completion
from msgrpo_cli.errors import NotFinite, RunError, UsageError
from msgrpo_cli.games.core import Observation, TextMediatedStochasticGame
from msgrpo_cli.games.guard import blaming
from msgrpo_cli.rollout.play import Decision
from msgrpo_cli.rollout.prompt import Messages, PromptTemplate

from .generation import Generated, Generator, Request, Sampling, generate

_TRIED_SEEDS = range(8)


class Precision(Protocol):
    """Makes the context in which the model runs, such as `accelerator.autocast`."""

    def __call__(self) -> AbstractContextManager[Any]: ...


class LanguageAgentPolicy:
    """pi(a|s): the share of sampled completions that parse to action a, given only what the template shows.

    Training and evaluation both use this class, so what is trained is what is scored. A prompt is never cut: `act`
    raises RunError for one of more than `max_prompt_tokens`, or that leaves no room for the answer in the model's
    context, and `check` says so before anything is played.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        template: PromptTemplate,
        sampling: Sampling,
        *,
        max_prompt_tokens: int,
        chat_template_kwargs: dict[str, Any] | None = None,
        precision: Precision = nullcontext,
        generator: Generator = generate,
    ) -> None:
        self.model = model
        self._tokenizer = tokenizer
        self._template = template
        self._precision = precision
        self._generator = generator
        self.sampling = sampling
        self._max_prompt_tokens = max_prompt_tokens
        self._context = context_of(model)
        self._chat_template_kwargs = chat_template_kwargs or {}
        self._encode = lru_cache(maxsize=100_000)(self._encode_messages)
        self._eos_token_ids = end_of_turn_ids(model, tokenizer)
        self._special = {*tokenizer.all_special_ids, *self._eos_token_ids}

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        """One sampled completion for each decision, all in one batch."""
        prompts = [
            self._encode(self._template.messages(asked.game, asked.observation, asked.history)) for asked in decisions
        ]
        with self._precision():
            keys = [asked.key for asked in decisions]
            request = Request(prompts, keys, self.sampling, pad_id(self._tokenizer), self._eos_token_ids)
            answers = self._generator(self.model, request)
        return [
            self._completion(asked, prompt, answer)
            for asked, prompt, answer in zip(decisions, prompts, answers, strict=True)
        ]

    def _completion(self, asked: Decision, prompt: tuple[int, ...], answer: Generated) -> Completion:
        """Decode and parse. The text ends at the first special token, so a made-up next turn is never read."""
        if not all(map(math.isfinite, answer.logprobs)):
            raise NotFinite(
                f"the model's log-probabilities at the decision {asked.key} are not finite: its weights hold NaN, or "
                "overflow",
                {"key": list(asked.key), "observation": asked.observation, "prompt_ids": list(prompt)},
            )
        spoken = next((i for i, token in enumerate(answer.token_ids) if token in self._special), len(answer.token_ids))
        text = str(self._tokenizer.decode(list(answer.token_ids[:spoken])))
        with blaming(type(asked.game).__name__, "in parse, at the decision {}", asked.key):
            action = asked.game.parse(text)
        return Completion(text, action, prompt, answer.token_ids, answer.logprobs, answer.truncated)

    def _encode_messages(self, messages: Messages) -> tuple[int, ...]:
        ids = prompt_ids(self._tokenizer, messages, self._chat_template_kwargs)
        if (problem := self._too_long(len(ids))) is not None:
            raise RunError(problem)
        return ids

    def check(self, game: TextMediatedStochasticGame, observation: Observation, history: int = 0) -> None:
        """Encode the first prompt of some games, behind as much `history` of its like as there will be.

        Raises UsageError where one is too long, or cannot be encoded.
        """
        longest = max(game.actions, key=len)
        for seed in _TRIED_SEEDS:
            game.reset(seed=seed)
            try:
                text = game.describe(observation)
                past = [(text, longest)] * min(history, game.max_steps - 1)
                self._encode(self._template.messages(game, text, past))
            except RunError as problem:
                raise UsageError(str(problem)) from problem
            except (TemplateError, ValueError, TypeError, KeyError) as problem:  # the tokenizer's own template
                raise UsageError(f"model: its chat template fails on the prompt: {problem}") from problem

    def unknown_words(self, game: TextMediatedStochasticGame, observation: Observation) -> int:
        """How many tokens of a first prompt stand for words that the tokenizer does not know, so that none is seen."""
        if self._tokenizer.unk_token is None:
            return 0
        game.reset(seed=0)
        ids = self._encode(self._template.messages(game, game.describe(observation)))
        return sum(token == self._tokenizer.unk_token_id for token in ids)

    def _too_long(self, tokens: int) -> str | None:
        answer = self.sampling.max_new_tokens
        if tokens > self._max_prompt_tokens:
            return (
                f"rollout.max_prompt_tokens={self._max_prompt_tokens}: a prompt has {tokens} tokens, and prompts are "
                "never cut: raise the limit, or choose prompt.observation=compact or a smaller game, or less "
                "prompt.history"
            )
        if self._context is not None and tokens + answer > self._context:
            return (
                f"rollout.max_new_tokens={answer}: a prompt has {tokens} tokens and the model's context is "
                f"{self._context}: lower it, or choose a shorter prompt or a model with a longer context"
            )
        return None


def context_of(model: PreTrainedModel) -> int | None:
    """How many tokens prompt and answer may have together; None where the model declares no limit."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, chat_template_kwargs: dict[str, Any]
) -> tuple[int, ...]:
    """A conversation as the model reads it, ending where its answer begins."""
    conversation = [{"role": role, "content": content} for role, content in messages]
    encoded: Any = tokenizer.apply_chat_template(
        conversation, add_generation_prompt=True, tokenize=True, return_dict=True, **chat_template_kwargs
    )
    return tuple(encoded["input_ids"])


def end_of_turn_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every token id that ends a completion: the tokenizer's, and those that the model declares."""
    declared = model.generation_config.eos_token_id if model.generation_config else None
    ids = declared if isinstance(declared, list) else [declared]
    return sorted({int(i) for i in [tokenizer.eos_token_id, *ids] if i is not None})


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The padding id; the end-of-turn id where the tokenizer has none, as TRL does it."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)
