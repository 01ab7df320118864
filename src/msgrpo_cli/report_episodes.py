"""The best, the median and the worst of the episodes that a group of runs played in its final evaluations.

Knows the lines of `eval/best.episodes.jsonl`. Knows nothing about statistics or how episodes are shown.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgrpo_cli.common.jsonl import read_lines
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.reader import RunData, number

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
        if isinstance(row, dict) and number(row.get("total_reward")) is not None and _steps(row)
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
    regret = sum(number(step.get("regret")) or 0.0 for step in _steps(row))
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
