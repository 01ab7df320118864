"""The rows of metrics.jsonl for curves: all of them, those of evaluations, points.

Knows what rows hold. Knows nothing about how they are drawn, about runs (`reader`), or about who writes rows: the
recorder and the end of a session.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read_rows(metrics_path: Path) -> list[Row]:
    """The rows of metrics.jsonl; a last line that breaks off, as after a crash, is ignored.

    Raises OSError where the file is missing, ValueError for another line that is no JSON object.
    """
    lines = metrics_path.read_text(encoding="utf-8", errors="replace").rstrip().split("\n")
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ValueError(f"{metrics_path.name}, line {number}: no JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{metrics_path.name}, line {number}: no JSON object")
        rows.append(row)
    return rows


def evaluation_rows(rows: Sequence[Row]) -> list[Row]:
    """The evaluations that make one line: those of the first scenario, without the test part where others exist."""
    evaluations = [row for row in rows if row.get("kind") == "eval"]
    chosen = [row for row in evaluations if row.get("split") != "test"] or evaluations
    return [row for row in chosen if row.get("env") == chosen[0].get("env")]


def points(rows: Sequence[Row], key: str) -> tuple[list[float], list[float]]:
    """Updates and the values of `key` there, rows without one left out."""
    known = [(float(row["update"]), float(row[key])) for row in rows if is_known(row, key)]
    return [update for update, _ in known], [value for _, value in known]


def is_known(row: Row, key: str) -> bool:
    return row.get("update") is not None and row.get(key) is not None
