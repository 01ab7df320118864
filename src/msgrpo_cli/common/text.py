"""Text that models and games wrote, made safe to show: what a terminal would obey, or nobody would see, is spelled out.

Knows characters. Knows nothing about where the text is shown.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TypeVar

_ANNOUNCED = 4  # lines of one error
_KEPT = frozenset("\n\t")
LettersOrWords = TypeVar("LettersOrWords", str, list[str])


def visible(text: str) -> str:
    """The same text with every control, format, surrogate and odd blank character as its escape, such as `\\x1b`.

    Line breaks stay; tabs become blanks.
    """
    return "".join(char if char in _KEPT or char.isprintable() else _escape(char) for char in text).expandtabs(4)


def visible_line(text: str) -> str:
    """The same on one line: line breaks are spelled out, too."""
    return visible(text).replace("\n", "\\n")


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def one_line(problem: BaseException) -> str:
    """The first line of what an error says; where that ends in a colon, what it announces, too."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    if not lines:
        return type(problem).__name__
    if lines[0].endswith(":") and len(lines) > 1:
        return f"{lines[0]} {'; '.join(lines[1:_ANNOUNCED])}"
    return lines[0]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The hint that follows a reason; empty where nothing is near. Of dotted keys only the last part is compared."""
    full = {name.rpartition(".")[2]: name for name in known}
    near = difflib.get_close_matches(word.rpartition(".")[2], full, n=1)
    return f"; did you mean '{full[near[0]]}'?" if near else ""


def reason_of(message: str) -> str:
    """pydantic's message as the end of a line."""
    text = message.removeprefix("Value error, ").removeprefix("Input ")
    return text[0].lower() + text[1:]


def part_in_words(split: str | None) -> str:
    """What a part of the state space is called to people; `any` is no part but all that the game draws."""
    return "all starts" if split == "any" else f"{split} part"


def begin_alike(texts: Sequence[LettersOrWords]) -> int:
    """How many letters, or words, all of these begin with alike."""
    first, last = min(texts), max(texts)  # whatever lies between begins as both do
    pairs = zip(first, last, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(first), len(last)))
