"""Which episodes are replayed, and in what order: filters, and the worst first.

Knows rows of episodes.jsonl. Knows nothing about files or how episodes are shown.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from msgrpo_cli.errors import UsageError, shown
from msgrpo_cli.runs.episodes import Row

P = TypeVar("P")


@dataclass(frozen=True)
class Selection:
    """What was asked for; None and False ask for nothing."""

    update: int | None = None
    ended_by: str | None = None
    invalid: bool = False
    """An answer held no action, or none that is legal."""
    loop: bool = False
    """An observation came again."""
    worst: int | None = None
    """So many, by total regret; by total reward where no regret is known."""
    limit: int | None = None
    """At most so many of them."""

    def fits(self, row: Row) -> bool:
        """Whether an episode passes every filter."""
        return (
            (self.update is None or row["update"] == self.update)
            and (self.ended_by is None or row["ended_by"] == self.ended_by)
            and (not self.invalid or invalid_answers(row) > 0)
            and (not self.loop or comes_again(row))
        )

    def __str__(self) -> str:
        parts = [
            f"--update {self.update}" if self.update is not None else "",
            f"--ended-by {shown(self.ended_by)}" if self.ended_by is not None else "",
            "--invalid" if self.invalid else "",
            "--loop" if self.loop else "",
            f"--worst {self.worst}" if self.worst is not None else "",
            f"--limit {self.limit}" if self.limit is not None else "",
        ]
        return " ".join(part for part in parts if part)


@dataclass
class Selected(Generic[P]):
    """The places of the episodes that were asked for, in the order in which they are shown."""

    places: list[P] = field(default_factory=list)
    read: int = 0
    """Episodes looked at."""
    matching: int = 0
    """Of them, those that pass the filters."""
    ranked_by: str | None = None
    """`regret` or `total_reward`, the worst first; None: in the order in which they were played."""
    unranked: int = 0
    """Of the matching ones, those left out of a ranking by regret because none of theirs is known."""


def total_regret(row: Row) -> float | None:
    """The sum of the known regrets of an episode; None where none is known."""
    known = [step["regret"] for step in row["steps"] if step["regret"] is not None]
    return math.fsum(known) if known else None


def invalid_answers(row: Row) -> int:
    """How many answers of an episode held no action, or none that is legal."""
    return sum(not step["valid"] for step in row["steps"])


def comes_again(row: Row) -> bool:
    """Whether an observation came a second time; a text that counts steps never does."""
    texts = [step["observation"] for step in row["steps"]]
    return len(set(texts)) < len(texts)


def select(rows: Iterable[tuple[P, Row]], wanted: Selection) -> Selected[P]:
    """Read every (place, episode) once and keep the places alone.

    Raises UsageError, with what there is, for an update or an ending that no episode has.
    """
    found: Selected[P] = Selected()
    by_regret, by_reward = _Largest[P](wanted.worst), _Largest[P](wanted.worst)
    updates: Counter[int | None] = Counter()
    endings: Counter[str] = Counter()
    for place, row in rows:
        found.read += 1
        updates[row["update"]] += 1
        endings[row["ended_by"]] += 1
        if not wanted.fits(row):
            continue
        found.matching += 1
        if wanted.worst is None:
            if wanted.limit is None or len(found.places) < wanted.limit:
                found.places.append(place)
            continue
        regret = total_regret(row)
        if regret is not None:
            by_regret.add(regret, place)
        by_reward.add(math.inf if row["total_reward"] is None else -row["total_reward"], place)
    _refuse_unknown(wanted, updates, endings)
    if wanted.worst is not None:
        ranking = by_regret if by_regret.seen else by_reward
        found.ranked_by = "regret" if by_regret.seen else "total_reward"
        found.unranked = found.matching - ranking.seen
        found.places = ranking.in_order()[: wanted.limit]
    return found


class _Largest(Generic[P]):
    """The places of the `count` largest values, the largest first; of equals the earlier ones."""

    def __init__(self, count: int | None) -> None:
        self._count = count or 0
        self._heap: list[tuple[float, int, P]] = []
        self.seen = 0

    def add(self, value: float, place: P) -> None:
        entry = (value, -self.seen, place)  # no two entries compare by their places
        self.seen += 1
        if len(self._heap) < self._count:
            heapq.heappush(self._heap, entry)
        elif self._heap:
            heapq.heappushpop(self._heap, entry)

    def in_order(self) -> list[P]:
        return [place for _, _, place in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]


def _refuse_unknown(wanted: Selection, updates: Counter[int | None], endings: Counter[str]) -> None:
    if wanted.update is not None and wanted.update not in updates:
        there = sorted(update for update in updates if update is not None)
        raise UsageError(f"--update {wanted.update}: no episode is of that update; there are {_ranges(there)}")
    if wanted.ended_by is not None and wanted.ended_by not in endings:
        ways = ", ".join(f"{shown(name)} ({count})" for name, count in endings.most_common())
        raise UsageError(f"--ended-by {shown(wanted.ended_by)}: no episode ended so; there are {ways or 'none'}")


def _ranges(numbers: list[int]) -> str:
    """`1 to 12, 14`; `none` of none."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in spans) or "none"
