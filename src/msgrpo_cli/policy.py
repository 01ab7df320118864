"""The Language-Agent Policy: state to prompt, prompt to sampled ids, ids to text, text to action.

Knows prompts, tokens and a transformers model. Knows nothing about rewards, training or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .episode import Completion
from .errors import RunError
from .generation import Generated, Generator, Sampling, generate
from .prompt import Messages, PromptTemplate
from .rollout import Decision


class Precision(Protocol):
    """Makes the context in which the model runs, such as `accelerator.autocast`."""

    def __call__(self) -> AbstractContextManager[Any]: ...


class LanguageAgentPolicy:
    """pi(a|s): the share of sampled completions that parse to action a, given only the current state.

    Training and evaluation both use this class, so what is trained is what is scored. Raises RunError for a prompt
    of more than `max_prompt_tokens`: a prompt is never cut.
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
        self._model = model
        self._tokenizer = tokenizer
        self._template = template
        self._precision = precision
        self._generator = generator
        self.sampling = sampling
        self._max_prompt_tokens = max_prompt_tokens
        self._chat_template_kwargs = chat_template_kwargs or {}
        self._encode = lru_cache(maxsize=100_000)(self._encode_messages)
        self._eos_token_ids = end_of_turn_ids(model, tokenizer)
        self._special = {*tokenizer.all_special_ids, *self._eos_token_ids}

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        """One sampled completion for each decision, all in one batch."""
        prompts = [self._encode(self._template.messages(asked.game, asked.observation)) for asked in decisions]
        with self._precision():
            answers = self._generator(
                self._model,
                prompts,
                [asked.key for asked in decisions],
                self.sampling,
                pad_token_id=pad_id(self._tokenizer),
                eos_token_ids=self._eos_token_ids,
            )
        return [
            self._completion(asked, prompt, answer)
            for asked, prompt, answer in zip(decisions, prompts, answers, strict=True)
        ]

    def _completion(self, asked: Decision, prompt: tuple[int, ...], answer: Generated) -> Completion:
        """Decode and parse. The text ends at the first special token, so a made-up next turn is never read."""
        spoken = next((i for i, token in enumerate(answer.token_ids) if token in self._special), len(answer.token_ids))
        text = str(self._tokenizer.decode(list(answer.token_ids[:spoken])))
        action = asked.game.parse(text)
        return Completion(text, action, prompt, answer.token_ids, answer.logprobs, answer.truncated)

    def _encode_messages(self, messages: Messages) -> tuple[int, ...]:
        ids = prompt_ids(self._tokenizer, messages, self._chat_template_kwargs)
        if len(ids) > self._max_prompt_tokens:
            raise RunError(
                f"a prompt has {len(ids)} tokens, rollout.max_prompt_tokens allows {self._max_prompt_tokens}; prompts "
                "are never cut: raise the limit, or choose prompt.observation=compact or a smaller game"
            )
        return ids


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
