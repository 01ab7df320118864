"""The record of a run on several processes beside that of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CLOSE = 2e-4
"""Numbers of metrics.jsonl, relative: sums in another order."""
_OF_THE_WAY = ("perf/", "tokens_read", "tokens_padding", "logprob_gap", "log_ratio")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same_numbers(run: Path, alone: Path, said: str = "") -> None:
    """Episodes to the byte, metrics but for what tells how it was computed; `said` is shown where the run failed."""
    assert json.loads((run / "run.json").read_text())["status"] == "done", said[-3000:]
    assert (run / "episodes.jsonl").read_bytes() == (alone / "episodes.jsonl").read_bytes()
    for ours, theirs in zip(lines(run / "metrics.jsonl"), lines(alone / "metrics.jsonl"), strict=True):
        for name, value in theirs.items():
            if name.startswith(_OF_THE_WAY):
                continue
            if isinstance(value, float):
                assert ours[name] == pytest.approx(value, rel=CLOSE, abs=1e-6), (theirs["update"], name)
            else:
                assert ours[name] == value, (theirs["update"], name)
