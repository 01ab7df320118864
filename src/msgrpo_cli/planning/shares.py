"""How an update is shared out among processes, and what they send each other.

Knows counts and bytes. Knows nothing about configs, models or devices. `training/parallel` deals out whole groups, and
as many micro-batches to one process as to another; `tests/planning/test_shares.py` holds this against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

EPISODE_BYTES = 7.5
"""Of each token of an episode, prompts and answers, as it is sent."""


def most(units: int, processes: int) -> int:
    """Of so many units that are dealt out whole, those of the process that has most: the others wait for it."""
    return math.ceil(units / processes)


def longest_share(units: float, processes: int) -> float:
    """The same, as a part of all."""
    whole = max(1, math.ceil(units))
    return most(whole, processes) / whole


def dealt(groups: int, processes: int) -> str:
    """Who plays how many groups of an update."""
    few, more = divmod(groups, processes)
    if not more:
        return f"each plays {few} of an update's {_groups(groups)}"
    rest = "the others none" if not few else f"the others {few}"
    return f"the first {more} play {few + 1} of an update's {_groups(groups)} each, {rest}"


def _groups(count: int) -> str:
    return f"{count} groups" if count > 1 else "one group"


@dataclass(frozen=True)
class Sent:
    """Bytes that each process sends in an update."""

    gradients: int
    """Summed around the ring: every process passes all of them on, but for its own part, and then the sums."""
    episodes: int
    """Every process gets all of them."""

    @property
    def total(self) -> int:
        return self.gradients + self.episodes


def sent(gradients: float, steps: int, tokens: float, processes: int) -> Sent:
    """`gradients`: bytes of them, summed at each of `steps` optimizer steps; `tokens`: of all episodes."""
    others = (processes - 1) / processes
    return Sent(round(2 * others * gradients * steps), round(others * EPISODE_BYTES * tokens))
