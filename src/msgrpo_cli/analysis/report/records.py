"""What a report says, as frozen records.

Knows the shape of a report. Knows nothing about how it comes about or how it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from msgrpo_cli.common.files import strict
from msgrpo_cli.common.statistics import Interval

from .measures import Cost, Curve, Notable

SCHEMA = 1
Measure = Literal["total_reward", "success_rate", "normalized_score"]
MEASURES: dict[Measure, str] = {
    "total_reward": "total reward",
    "success_rate": "success",
    "normalized_score": "normalised score",
}
"""The words for each."""


@dataclass(frozen=True)
class Score:
    """One number for each seed, and what they say together."""

    values: tuple[float, ...]
    """In the order of the group's seeds."""
    mean: float
    ci95: Interval | None
    """Bootstrap over seeds; None with one seed, and where all seeds score alike."""
    interquartile_mean: float


@dataclass(frozen=True)
class GroupReport:
    """What the report says about one group."""

    letter: str
    label: str
    game: str
    """Equal for groups that play the same game."""
    split: str | None
    """The part of the state space that the final evaluation played."""
    seeds: tuple[int, ...]
    """Those whose runs are done."""
    runs: tuple[str, ...]
    """Their directories."""
    scores: Mapping[str, Score | None]
    """By measure; None where a run has no such number."""
    normalized_reason: str | None
    """Why there is no normalised score."""
    random_score: float | None
    base_score: float | None
    """Mean over the runs of what the untrained weights scored."""
    optimal_score: float | None
    optimal_is_exact: bool
    cost: Cost
    curve: Curve
    episodes: tuple[Notable, ...]


@dataclass(frozen=True)
class Comparison:
    """Two groups."""

    first: str
    second: str
    """Letters."""
    measure: Measure | None
    """What they are compared by; None where nothing is comparable."""
    probability_of_improvement: float | None
    """That a seed of the first scores above one of the second, ties counted half; None with one seed on a side."""
    probability_ci95: Interval | None
    verdict: Literal["above", "below", "not ranked", "not compared"]
    reason: str


@dataclass(frozen=True)
class Unfinished:
    """A job or run that does not count, and why."""

    run: str
    """Its directory, which need not exist."""
    status: str
    overrides: tuple[str, ...]
    reason: str | None


@dataclass(frozen=True)
class Report:
    """Everything that a page or a terminal shows."""

    title: str
    made: str
    version: str
    groups: tuple[GroupReport, ...]
    differences: Mapping[str, tuple[str, ...]]
    """Dotted key: its value in each group, as written; `-` where a group has no such key."""
    comparisons: tuple[Comparison, ...]
    unfinished: tuple[Unfinished, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As strict JSON; steps of episodes are left to the page and the files."""
        data = asdict(self)
        for group in data["groups"]:
            for episode in group["episodes"]:
                episode.pop("steps")
        found = strict({"schema": SCHEMA, **data})
        assert isinstance(found, dict)
        return found
