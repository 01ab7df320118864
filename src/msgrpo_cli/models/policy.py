"""The Language-Agent Policy: state to prompt, prompt to sampled ids, ids to text, text to action.

Knows prompts, tokens and a transformers model. Knows nothing about rewards, training or files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from typing import Any, Protocol

from transformers import PreTrainedModel

from msgrpo_cli.episode import Completion
from msgrpo_cli.errors import NotFinite, RunError, UsageError
from msgrpo_cli.games.core import Observation, TextMediatedStochasticGame
from msgrpo_cli.games.guard import blaming
from msgrpo_cli.rollout.play import Decision
from msgrpo_cli.rollout.prompt import Messages, PromptTemplate

from .answer_mass import Masses, Weighing, weigh
from .beginnings import Tokens
from .conversation import Conversation
from .generation import Generated, Generator, Request, Sampling, generate
from .kept_beginnings import KeptBeginnings
from .loading import context_of


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
        conversation: Conversation,
        template: PromptTemplate,
        sampling: Sampling,
        *,
        max_prompt_tokens: int,
        precision: Precision = nullcontext,
        generator: Generator = generate,
        prefix_memory: int = 0,
    ) -> None:
        self.model = model
        self.conversation = conversation
        self._template = template
        self._precision = precision
        self.generator = generator
        self.sampling = sampling
        self._max_prompt_tokens = max_prompt_tokens
        self._prefix_memory = prefix_memory
        self._kept: KeptBeginnings | None = None
        self._context = context_of(model.config)
        self._encode = lru_cache(maxsize=100_000)(conversation.prompt_ids)

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        """One sampled completion for each decision, all in one batch."""
        prompts = [self.prompt_ids(asked) for asked in decisions]
        with self._precision():
            keys = [asked.key for asked in decisions]
            sampling, talk = self.sampling, self.conversation
            request = Request(prompts, keys, sampling, talk.pad_id, talk.ends, self._kept)
            answers = self.generator(self.model, request)
        if self._kept is not None:
            self._kept.fit(self._prefix_memory)
        return [
            self._completion(asked, prompt, answer)
            for asked, prompt, answer in zip(decisions, prompts, answers, strict=True)
        ]

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """While the weights stay the same: what was read is kept in `prefix_memory` bytes.

        Within one of these another one changes nothing; what is copied meanwhile keeps it, too.
        """
        if self._kept is not None:
            yield
            return
        self._kept = KeptBeginnings(self.model, self._prefix_memory) if self._prefix_memory else None
        try:
            yield
        finally:
            self._kept = None

    def _completion(self, asked: Decision, prompt: tuple[int, ...], answer: Generated) -> Completion:
        """Decode and parse."""
        if not all(map(math.isfinite, answer.logprobs)):
            raise NotFinite(
                f"the model's log-probabilities at the decision {asked.key} are not finite: its weights hold NaN, or "
                "overflow",
                {"key": list(asked.key), "observation": asked.observation, "prompt_ids": list(prompt)},
            )
        text = self.conversation.text(answer.token_ids)
        action = self.meaning(asked, answer.token_ids)
        return Completion(text, action, prompt, answer.token_ids, answer.logprobs, answer.truncated)

    def meaning(self, asked: Decision, token_ids: Sequence[int]) -> str | None:
        """The action that an answer names, legal or not; None where it names none."""
        with blaming(type(asked.game).__name__, "in parse, at the decision {}", asked.key):
            return asked.game.parse(self.conversation.spoken(token_ids))

    def weigh(self, prompts: Sequence[Tokens], answers: Sequence[Tokens], rows: int) -> list[Masses]:
        """Of each prompt the probability that `act` answers exactly so; see `answer_mass.weigh`."""
        talk = self.conversation
        with self._precision():
            return weigh(self.model, Weighing(prompts, answers, self.sampling, talk.pad_id, talk.ends, rows))

    def prompt_ids(self, asked: Decision) -> tuple[int, ...]:
        """What the model reads at a decision. Raises RunError where that does not fit."""
        game = asked.game
        messages = self._template.messages(game, asked.observation, asked.history)
        name, history = game.label or type(game).__name__, len(asked.history)
        return self._fitting(messages, name, history, lambda: game.describe("compact") == asked.observation)

    def _fitting(self, messages: Messages, of: str, history: int, compact: Callable[[], bool]) -> tuple[int, ...]:
        """The ids of a prompt. Raises RunError where it does not fit."""
        ids = self._encode(messages)
        most, answer, context = self._max_prompt_tokens, self.sampling.max_new_tokens, self._context
        if too_long(len(ids), most, answer, context) is not None:
            shown = any(self._template.examples.values())
            how = partial(too_long, len(ids), most, answer, context, of, history=history)
            raise RunError(how(examples=shown, compact=compact()))
        return ids

    def check(
        self, game: TextMediatedStochasticGame, observation: Observation, history: int = 0, name: str = "the game"
    ) -> None:
        """Encode the first prompt of some games, behind as much `history` of its like as there will be.

        Raises UsageError where one is too long, or cannot be encoded; `name` is what the game is called there.
        """
        for messages in self._template.first(game, observation, history):
            try:
                self._fitting(messages, game.label or name, history, lambda: observation == "compact")
            except RunError as problem:
                raise UsageError(str(problem)) from problem

    def unknown_words(self, game: TextMediatedStochasticGame, observation: Observation) -> int:
        """How many tokens of a first prompt stand for words that the tokenizer does not know, so that none is seen."""
        unknown = self.conversation.tokenizer.unk_token_id
        if unknown is None:
            return 0
        game.reset(seed=0)
        ids = self._encode(self._template.messages(game, game.describe(observation)))
        return sum(token == unknown for token in ids)


def too_long(
    tokens: int,
    most: int,
    answer: int,
    context: int | None = None,
    of: str = "the game",
    *,
    history: int = 0,
    examples: bool = False,
    compact: bool = False,
) -> str | None:
    """Why a prompt of so many tokens is refused, in words, and what can help; None where it is not.

    `most` is rollout.max_prompt_tokens, `answer` rollout.max_new_tokens, `context` what the model has for both. `of` is
    what the game is called; `history`, `examples` and `compact` say how its prompts are made.
    """
    room = None if context is None else context - tokens
    fits = room is None or room >= answer
    if tokens <= most and fits:
        return None
    shorter = [
        *(["prompt.observation=compact"] if not compact else []),
        *(["less prompt.history"] if history else []),
        *(["fewer prompt.examples"] if examples else []),
        "a smaller game",
        "a shorter prompt",
    ]
    if fits:
        said = "and prompts are never cut: raise the limit, or choose "
        return f"rollout.max_prompt_tokens={most}: a prompt of {of} has {tokens} tokens, {said}{_or(shorter)}"
    key, lower = f"rollout.max_new_tokens={answer}", f"lower it to at most {room}, or "
    if tokens > most:
        key, lower = f"rollout.max_prompt_tokens={most}", f"raise the limit and lower {key} to at most {room}, or "
    lower = lower if room is not None and room > 0 else ""
    return (
        f"{key}: a prompt of {of} has {tokens} tokens and the model's context is {context}: {lower}choose "
        f"{_or([*shorter, 'a model with a longer context'])}"
    )


def _or(choices: Sequence[str]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}"
