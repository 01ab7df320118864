"""What a game's text states, so that it can be held against the game itself.

Knows texts and patterns. Knows nothing about single games: each lists its own facts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Place = Literal["rules", "full", "compact"]


@dataclass(frozen=True)
class Fact:
    """Something that the text states about the present state, or about the game."""

    name: str
    where: Place
    pattern: str
    """A regular expression; its groups are what is stated."""
    real: Callable[[Any], Sequence[object]]
    """What the groups must say, computed from the game's state and parameters, never from its text."""

    def problem(self, game: Any) -> str | None:
        """How the text contradicts the game; None where it does not."""
        text = game.rules() if self.where == "rules" else game.describe(self.where)
        found = re.search(self.pattern, text)
        real = tuple(None if value is None else str(value) for value in self.real(game))
        if found is None:
            return f"{self.name}: not stated in the {self.where} text, which should say {_listed(real)}"
        if found.groups() != real:
            return f"{self.name}: the {self.where} text says {_listed(found.groups())}; it is {_listed(real)}"
        return None


@dataclass(frozen=True)
class Moves:
    """A position in the full text, and how the actions change it: what is said of coordinates, as it is played."""

    pattern: str
    """Finds the position; its groups are integers. No match where there is none, such as after the end."""
    changes: Mapping[str, tuple[int, ...]]
    """By action; a move that something stops changes nothing."""
    certain: Callable[[Any], bool] = lambda game: True
    """Whether the action alone decides where a move leads."""

    def position(self, text: str) -> tuple[int, ...] | None:
        """Where the text says that you are."""
        found = re.search(self.pattern, text)
        return tuple(map(int, found.groups())) if found else None

    def problem(self, game: Any, action: str, before: str, after: str) -> str | None:
        """How a played move contradicts what the texts say; None where it does not."""
        start, end = self.position(before), self.position(after)
        if start is None or end is None or start == end:
            return None
        change = tuple(new - old for old, new in zip(start, end, strict=True))
        allowed = [self.changes[action]] if self.certain(game) else list(self.changes.values())
        if change in allowed:
            return None
        return f"{action} led from {start} to {end}; the text promises a change by {' or '.join(map(str, allowed))}"


def _listed(values: Sequence[str | None]) -> str:
    return ", ".join(str(value) for value in values)
