"""What groups of runs cost, how they learnt, and which of their episodes were best, median and worst.

Knows the rows of metrics.jsonl and of `eval/best.episodes.jsonl`. Knows nothing about scores or how measures are shown.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgrpo_cli.common.jsonl import read_lines
from msgrpo_cli.common.statistics import Interval
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.metrics import evaluation_rows, points
from msgrpo_cli.runs.reader import RunData, finite

from .seeds import seed_interval


@dataclass(frozen=True)
class Cost:
    """Sums over the runs of a group; rows that a resume has cut away are not in them."""

    finished_runs: int
    seconds_training: float
    """Of the finished runs: rollout, scoring and optimizer, without loading."""
    seconds_evaluating: float
    decisions: int
    """Steps that were played in training."""
    tokens: int
    """Prompt and answer tokens of the rows that were trained on."""
    other_runs: int
    other_seconds: float
    """Of the runs that do not count, training and evaluation together."""


def cost_of(finished: Sequence[RunData], others: Sequence[RunData]) -> Cost:
    """The costs of a group."""
    rows = [row for run in finished for row in run.rows]
    other_rows = [row for run in others for row in run.rows]
    return Cost(
        finished_runs=len(finished),
        seconds_training=_sum(rows, "perf/seconds_total"),
        seconds_evaluating=_sum(rows, "perf/wall_seconds"),
        decisions=int(_sum(rows, "steps_played")),
        tokens=int(_sum(rows, "tokens_prompt") + _sum(rows, "tokens_completion")),
        other_runs=len(others),
        other_seconds=_sum(other_rows, "perf/seconds_total") + _sum(other_rows, "perf/wall_seconds"),
    )


def _sum(rows: Iterable[Mapping[str, Any]], key: str) -> float:
    return sum(finite(row.get(key)) or 0.0 for row in rows)


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
        random_score=None if of_training else finite(first.get("random_score")),
        optimal_score=None if of_training else finite(first.get("optimal_score")),
    )


def _line(rows: Sequence[dict[str, Any]], key: str) -> Line:
    sound = [row for row in rows if finite(row.get("update")) is not None and finite(row.get(key)) is not None]
    return tuple(zip(*points(sound, key), strict=True))


def _point(update: float, values: Sequence[float]) -> Point:
    return Point(update, sum(values) / len(values), seed_interval(values))


_MOST_STEPS, _MOST_CHARACTERS = 60, 3000  # of one episode, and of one text in it, so that a page stays small
_FILE = "eval/best.episodes.jsonl"


@dataclass(frozen=True)
class Notable:
    """One episode, where it is stored and what happened in it."""

    kind: str
    """best, median or worst."""
    run: str
    """Its directory."""
    file: str
    """Below the run directory."""
    line: int
    """Counted from 1."""
    env: str
    seed: int | None
    """Of the initial state."""
    total_reward: float
    success: bool | None
    ended_by: str
    length: int
    """Steps that were played."""
    steps: tuple[Mapping[str, Any], ...]
    """As stored; long texts and long episodes are cut."""


def notable_episodes(runs: Sequence[RunData]) -> list[Notable]:
    """Best, median and worst by total reward; of equals the better has less regret, then fewer steps.

    Empty where no episode can be read.
    """
    found = sorted(
        (_rank(row), order, line)
        for order, run in enumerate(runs)
        for line, row in enumerate(_rows(run.path), 1)
        if isinstance(row, dict) and finite(row.get("total_reward")) is not None and _steps(row)
    )
    if not found:
        return []
    places = {"best": found[-1], "median": found[(len(found) - 1) // 2], "worst": found[0]}
    return [_notable(kind, runs[order], line) for kind, (_, order, line) in places.items()]


def _rows(run: Path) -> Sequence[Any]:
    try:
        return list(read_lines(Run(run).evaluations / "best.episodes.jsonl"))
    except OSError:
        return []


def _rank(row: Mapping[str, Any]) -> tuple[float, bool, float, int]:
    regret = sum(finite(step.get("regret")) or 0.0 for step in _steps(row))
    return float(row["total_reward"]), bool(row.get("success")), -round(regret, 9), -len(_steps(row))


def _steps(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    steps = row.get("steps")
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def _notable(kind: str, run: RunData, line: int) -> Notable:
    with (run.path / _FILE).open(encoding="utf-8") as lines:
        row = json.loads(next(itertools.islice(lines, line - 1, None)))
    seed = row.get("seed")
    return Notable(
        kind=kind,
        run=str(run.path.absolute()),
        file=_FILE,
        line=line,
        env=str(row.get("env")),
        seed=seed if isinstance(seed, int) else None,
        total_reward=float(row["total_reward"]),
        success=row.get("success"),
        ended_by=str(row.get("ended_by")),
        length=len(_steps(row)),
        steps=tuple(_cut(step) for step in _steps(row)[:_MOST_STEPS]),
    )


def _cut(step: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: f"{value[:_MOST_CHARACTERS]} ... ({len(value)} characters)"
        if isinstance(value, str) and len(value) > _MOST_CHARACTERS
        else value
        for key, value in step.items()
    }
