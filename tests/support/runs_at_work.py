"""Runs at work in processes of their own: started, waited for, looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIX_UPDATES = (
    "experiment=smoke",
    "max_updates=6",
    "algo.groups_per_update=4",
    "eval.every=0",
    "save.every=1",
    "save.keep_last=9",
)
PATIENCE = 240.0
A_MINUTE = 60.0
"""In which a run of several processes ends that one of them was lost to; what is waited for, and not a measurement."""

CLOSE = 1e-6
"""Weights of one process and of several, on average: up to the order of sums; an update is a hundred times as long."""


def started(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "msgrpo_cli", "train", *arguments]
    known = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.Popen(command, cwd=folder, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(there: Callable[[], object], patience: float = PATIENCE) -> None:
    began = time.monotonic()
    while not there():
        if time.monotonic() - began > patience:
            raise TimeoutError
        time.sleep(0.05)


def record(run: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / "run.json").read_text())
    return found


def rows(run: Path) -> list[dict[str, Any]]:
    """Of its updates."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if row["kind"] == "train"]


def updates(run: Path) -> list[int]:
    return [row["update"] for row in rows(run)]


def losses(run: Path) -> list[float]:
    return [row[name] for row in rows(run) for name in ("loss", "grad_norm", "entropy") if not row["skipped"]]


def far_apart(checkpoint: Path, other: Path) -> float:
    """The weights of two checkpoints, on average."""
    from safetensors.torch import load_file

    ours, theirs = (load_file(each / "model.safetensors") for each in (checkpoint, other))
    assert ours.keys() == theirs.keys()
    apart = [(ours[name] - theirs[name]).abs() for name in ours]
    return float(sum(one.sum() for one in apart) / sum(one.numel() for one in apart))
