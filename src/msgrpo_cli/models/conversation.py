"""How one tokenizer carries a conversation: messages to the ids that a model reads, and sampled ids back to text.

Knows chat templates, what they print that is not in the messages, and where a turn ends. Knows nothing about games,
weights or sampling. Training, evaluation, plans and the doctor all go through it, so that what is checked is what runs.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from msgrpo_cli.errors import UsageError, shown
from msgrpo_cli.rollout.prompt import Messages

PLAIN_TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'system' %}{{ message.content }}\n\n"
    "{% elif message.role == 'user' %}User: {{ message.content }}\n"
    "{% else %}Assistant: {{ message.content }}{{ eos_token }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For base models, whose tokenizers bring no template."""
SystemRole = Literal["auto", "user", "system"]
_ANSWER, _QUESTION, _RULES, _NEXT = "an answer 7351", "a question 7352", "some rules 7353", "a question 7354"
_TURNS = (("assistant", _ANSWER), ("user", _NEXT))
_SHAPES = tuple(
    (*system, ("user", _QUESTION), *_TURNS * history) for system in ((), (("system", _RULES),)) for history in (0, 1, 4)
)
"""A run's conversations, with and without a system message and a history: a template may read the clock in some."""
_MIDNIGHT, _LATER = datetime.time(), datetime.time(13, 47, 59, 123456)
"""The time of day that a template reads, which is always the same, and another."""
_UNTOLD = "msgrpo: strftime_now of "


def _on(told: Mapping[str, str], template: str) -> str:
    """The template, with `strftime_now` telling what these formats give, and failing with `_UNTOLD` for any other.

    A macro hides transformers' own, which asks the clock. The line break behind it is none of the template: blanks at
    the template's beginning are read as ever.
    """
    if "strftime_now" not in template:
        return template
    known = ", ".join(f"{format!a}: {said!a}" for format, said in told.items())
    return (
        f"{{%- macro strftime_now(format) -%}}{{%- set told = {{{known}}} -%}}{{%- if format not in told -%}}"
        f"{{{{- raise_exception({_UNTOLD!r} ~ format) -}}}}{{%- endif -%}}{{{{- told[format] -}}}}{{%- endmacro %}}\n"
        f"{template}"
    )


class Conversation:
    """Messages to ids and back. Raises UsageError where the template fails, `end_of_turn` names no single token, or
    `answer_prefix` holds one that ends a turn."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        system_role: SystemRole = "auto",
        date: str | None = None,
        end_of_turn: Sequence[str] = (),
        declared_ends: Sequence[int] = (),
        answer_prefix: str | None = None,
    ) -> None:
        """`date` (YYYY-MM-DD) is what a template that prints today's date reads, `None` the present day.

        `answer_prefix` stands at the end of every prompt, and is read as the beginning of its answer.

        `declared_ends` are the ids that the model declares to end a turn; the tokenizer's own and the one that the
        template writes are added, and those of `end_of_turn`.
        """
        self.tokenizer = tokenizer
        self._kwargs = dict(chat_template_kwargs or {})
        self.answer_prefix = answer_prefix or ""
        """What every answer begins with, as text; the end of every prompt."""
        self._prefix_ids: list[int] = (
            tokenizer.encode(self.answer_prefix, add_special_tokens=False) if self.answer_prefix else []
        )
        self._day = datetime.date.fromisoformat(date) if date else datetime.date.today()
        self._chosen = date is not None
        self._told: dict[str, str] = {}  # what the template's formats give on this day, found as it asks for them
        self.notes: list[str] = []
        """What a user should know about how prompts and answers are read, a line each."""
        if tokenizer.chat_template == PLAIN_TEMPLATE:
            self.notes.append(
                "the tokenizer has no chat template: turns are written as plain text, 'User: ...' and 'Assistant: ...' "
                "(model.chat_template_file)"
            )
        self._fold = system_role == "user" or (system_role == "auto" and self._refuses_system())
        self._special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
        tails = self._behind_an_answer()
        self.ends = self._all_ends(tails, declared_ends, end_of_turn)
        """Every one of these ids ends an answer."""
        self._ends = frozenset(self.ends)
        self._turns = self._ends | self._special.intersection(*tails[1:])
        if closed := sorted(self._turns.intersection(self._prefix_ids)):
            end = tokenizer.convert_ids_to_tokens(closed[0])
            raise UsageError(
                f"prompt.answer_prefix={shown(self.answer_prefix)}: holds {end}, with which a turn ends, so that the "
                "model's words stand behind its answer; leave that out"
            )
        for shape in _SHAPES:
            self._try(shape)
        self.reads_the_clock = bool(self._told)
        """Whether the template asks for the date, in whatever conversation."""
        if self.reads_the_clock:
            timed = any(self._said(format, _LATER) != said for format, said in self._told.items())
            time = f"; where it reads the time of day, that is {_MIDNIGHT:%H:%M}" if timed else ""
            self.notes.append(f"the chat template reads the date: {self._day} (prompt.date){time}")
        elif self._chosen:
            self.notes.append(f"prompt.date={self._day} changes nothing: the chat template reads no date")

    @property
    def date(self) -> str:
        """The day that the template reads."""
        return self._day.isoformat()

    @property
    def pad_id(self) -> int:
        """The padding id; the end-of-turn id where the tokenizer has none, as TRL does it."""
        tokenizer = self.tokenizer
        return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)

    def prompt_ids(self, messages: Messages) -> tuple[int, ...]:
        """A conversation as the model reads it, ending where its own part of the answer begins. Raises UsageError."""
        encoded = self._rendered(self._folded(messages) if self._fold else messages, tokenize=True)
        if self._told and not (self.reads_the_clock or self._chosen):
            raise UsageError(
                f"prompt.date: missing; the chat template reads the date in a conversation of {len(messages)} turns, "
                f"though in none that was tried: give prompt.date={self._day}"
            )
        return (*encoded["input_ids"], *self._prefix_ids)

    def text(self, token_ids: Sequence[int]) -> str:
        """An answer's text, its prefix included, up to its end of turn; any other special token in it stays text."""
        return self._until(self._ends, token_ids)

    def spoken(self, token_ids: Sequence[int]) -> str:
        """What of an answer is read as an action: a next turn that the model makes up is none of it."""
        return self._until(self._turns, token_ids)

    def _until(self, marks: Collection[int], token_ids: Sequence[int]) -> str:
        length = next((i for i, token in enumerate(token_ids) if token in marks), len(token_ids))
        return str(self.tokenizer.decode([*self._prefix_ids, *token_ids[:length]], skip_special_tokens=False))

    def answer_ids(self, text: str) -> list[int]:
        """The ids of an answer that a model might give, but for the prefix, its end of turn included.

        Raises UsageError for a text that does not begin with the prefix.
        """
        if not text.startswith(self.answer_prefix):
            raise UsageError(f"prompt.answer_prefix={self.answer_prefix}: the answer {text} does not begin so")
        said = text.removeprefix(self.answer_prefix)
        return [*self.tokenizer.encode(said, add_special_tokens=False), self.ends[0]]

    def _rendered(self, messages: Messages, *, tokenize: bool, prompt: bool = True) -> Any:
        conversation = [{"role": role, "content": content} for role, content in messages]
        try:
            while True:
                try:
                    return self.tokenizer.apply_chat_template(
                        conversation,
                        chat_template=_on(self._told, self.tokenizer.get_chat_template()),
                        add_generation_prompt=prompt,
                        tokenize=tokenize,
                        return_dict=tokenize,
                        **self._kwargs,
                    )
                except TemplateError as problem:
                    _, asked, format = str(problem.message).partition(_UNTOLD)
                    if not asked or format in self._told:
                        raise
                    self._told[format] = self._said(format, _MIDNIGHT)
        except (TemplateError, ValueError, TypeError, KeyError) as problem:
            raise UsageError(f"model: its chat template fails on the prompt: {problem}") from problem

    def _said(self, format: str, time: datetime.time) -> str:
        """As transformers says it, at this time of the day."""
        return datetime.datetime.combine(self._day, time).strftime(format)

    def _try(self, messages: Messages, *, prompt: bool = True) -> str | None:
        """The text, or None where the template refuses."""
        try:
            return str(self._rendered(messages, tokenize=False, prompt=prompt))
        except UsageError:
            return None

    def _refuses_system(self) -> bool:
        """Some templates raise on a system message, others leave it out without a word."""
        said = self._try((("system", _RULES), ("user", _QUESTION)))
        if said is not None and _RULES in said:
            return False
        how = "refuses" if said is None else "leaves out"
        self.notes.append(
            f"the chat template {how} system messages: their text goes into the first user turn (prompt.system_role)"
        )
        return True

    @staticmethod
    def _folded(messages: Messages) -> Messages:
        """System messages put before the first user turn."""
        system = [content for role, content in messages if role == "system"]
        others = [message for message in messages if message[0] != "system"]
        if not system or not others:
            return messages
        role, content = others[0]
        return ((role, "\n\n".join([*system, content])), *others[1:])

    def _all_ends(
        self, tails: Sequence[Sequence[int]], declared: Sequence[int], named: Sequence[str]
    ) -> tuple[int, ...]:
        found = {int(token) for token in (self.tokenizer.eos_token_id, *declared) if token is not None}
        written = next((token for tail in tails if (token := self._first_mark(tail)) is not None), None)
        if written is not None:
            found.add(written)
        elif words := next((said for tail in tails if (said := self._words(tail))), None):
            self.notes.append(
                f"warning: the chat template writes {words[:40]!r} behind an answer, which is no single token here, so "
                "no answer ends there (model.end_of_turn)"
            )
        for text in named:
            ids = self.tokenizer.encode(text, add_special_tokens=False)
            if len(ids) != 1:
                raise UsageError(f"model.end_of_turn={text}: {len(ids)} tokens of this tokenizer; name a single one")
            found.add(ids[0])
        ends = tuple(sorted(found))
        words = ", ".join(str(self.tokenizer.convert_ids_to_tokens(token)) for token in ends)
        self.notes.append(f"answers end at {words}")
        return ends

    def _words(self, token_ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(token_ids))).strip()

    def _first_mark(self, tail: Sequence[int]) -> int | None:
        """The special token that comes first, but for blanks."""
        for token in tail:
            if token in self._special:
                return token
            if self._words([token]):
                return None
        return None

    def _behind_an_answer(self) -> list[list[int]]:
        """What the template writes behind an answer: behind the last one, and between one and the next user's words."""
        tails = []
        for later in ((), (("user", _NEXT),)):
            said = self._try((("user", _QUESTION), ("assistant", _ANSWER), *later), prompt=False)
            written = said.rpartition(_ANSWER)[2].partition(_NEXT)[0] if said is not None and _ANSWER in said else ""
            tails.append(list(map(int, self.tokenizer.encode(written.lstrip(), add_special_tokens=False))))
        return tails
