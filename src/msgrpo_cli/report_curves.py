"""How groups learnt: the mean over seeds at each evaluation, with its interval, and every seed's own line.

Knows the rows of metrics.jsonl. Knows nothing about figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgrpo_cli.common.statistics import Interval
from msgrpo_cli.runs.metrics import evaluation_rows, points
from msgrpo_cli.runs.reader import RunData, number
from msgrpo_cli.seed_statistics import seed_interval

Line = tuple[tuple[float, float], ...]
"""Updates and values."""


@dataclass(frozen=True)
class Point:
    """The seeds of a group at one update."""

    update: float
    mean: float
    ci95: Interval | None


@dataclass(frozen=True)
class SeedLine:
    """One run."""

    run: str
    """Its directory."""
    line: Line


@dataclass(frozen=True)
class Curve:
    """Mean total reward against updates."""

    source: str
    """The part of the state space that was evaluated, or `training` where runs evaluated nothing on their way."""
    points: tuple[Point, ...]
    """At the updates that every finished run of the group has."""
    seeds: tuple[SeedLine, ...]
    """Of every run, finished or not."""
    random_score: float | None
    optimal_score: float | None


def curves_of(finished: Sequence[RunData], others: Sequence[RunData]) -> Curve:
    """The curve of a group; `finished` make its mean, `others` have lines of their own."""
    runs = [*finished, *others]
    evaluated = [evaluation_rows(run.rows) for run in runs]
    of_training = not any(len(rows) > 1 for rows in evaluated)
    key = "total_reward" if of_training else "mean_total_reward"
    chosen = [[row for row in run.rows if row.get("kind") == "train"] for run in runs] if of_training else evaluated
    lines = [_line(rows, key) for rows in chosen]
    known = [dict(line) for line in lines[: len(finished)]]
    common = sorted(set.intersection(*map(set, known))) if known else []
    first = next((rows[0] for rows in evaluated if rows), {})
    return Curve(
        source="training" if of_training else str(first.get("split")),
        points=tuple(_point(update, [line[update] for line in known]) for update in common),
        seeds=tuple(SeedLine(str(run.path.absolute()), line) for run, line in zip(runs, lines, strict=True) if line),
        random_score=None if of_training else number(first.get("random_score")),
        optimal_score=None if of_training else number(first.get("optimal_score")),
    )


def _line(rows: Sequence[dict[str, Any]], key: str) -> Line:
    sound = [row for row in rows if number(row.get("update")) is not None and number(row.get(key)) is not None]
    return tuple(zip(*points(sound, key), strict=True))


def _point(update: float, values: Sequence[float]) -> Point:
    return Point(update, sum(values) / len(values), seed_interval(values))
