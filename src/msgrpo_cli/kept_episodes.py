"""Which evaluations of a run keep all their episodes, so that a long run stays small: the first, the best, the last.

Knows the rows of metrics.jsonl and the files of `eval/`. Knows nothing about models or how an evaluation is made.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from msgrpo_cli.common.files import write_text
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.metrics import read_rows

KEPT = 50
"""Episodes that the other evaluations keep: their first ones, which are the same starts each time."""


def cut_former_episodes(run: Run, split: str) -> None:
    """After an evaluation during training: cut what was the best or the last until now and no longer is.

    Decided by the rows alone, which a resume has cut back to its checkpoint; so a resumed run ends with the same files.
    The evaluations of base and best checkpoint that end a run, and those of `msgrpo eval`, have other names and stay.
    """
    rows = [row for row in read_rows(run.metrics) if _is_of_the_series(row, split)]
    for update in _in_full(rows[:-1]) - _in_full(rows):
        file = run.evaluations / f"{split}-{update}.episodes.jsonl"
        if not file.is_file():
            continue
        with file.open(encoding="utf-8") as lines:
            first = list(itertools.islice(lines, KEPT))
        write_text(file, "".join(first))


def _is_of_the_series(row: dict[str, Any], split: str) -> bool:
    return row["kind"] == "eval" and row["split"] == split and row["checkpoint"] is None


def _in_full(rows: Sequence[dict[str, Any]]) -> set[int]:
    """The updates of the first, the best (the later of equals) and the last evaluation."""
    if not rows:
        return set()
    best = max(rows, key=lambda row: (row["mean_total_reward"], row["update"]))
    return {row["update"] for row in (rows[0], best, rows[-1])}
