"""What runs cost: seconds, tokens, decisions.

Knows the rows of metrics.jsonl. Knows nothing about scores or how costs are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgrpo_cli.runs.reader import RunData, number


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
    return sum(number(row.get(key)) or 0.0 for row in rows)
