"""`msgrpo bench learn`: seconds and decisions until held-out starts are won often enough.

Knows a run's rows of metrics. Knows nothing about how training works.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from msgrpo_cli.common.jsonl import read_lines
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.models.precision import device_for
from msgrpo_cli.runs.directory import Run

from ..train import train_job
from .meter import machine

TARGET = 0.8


def bench_learn(config: RunConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """Train in a folder that is thrown away, until success on validation reaches 0.8 or the updates are spent.

    Seconds are those of the updates: loading and evaluations are left out, so that they do not depend on how often a
    run is scored. The answer is as fine as `eval.every`.
    """
    game = make_game(config.env)
    game.reset(seed=0)
    if game.success is None:
        raise UsageError(f"env={config.env.name}: declares no success, so there is no {TARGET:.0%} to reach")
    config = config.model_copy(update={"stop": config.stop.model_copy(update={"success": TARGET})})
    with tempfile.TemporaryDirectory(prefix="msgrpo-bench-") as folder:
        run = Run(Path(folder) / "run")
        train_job(config, run.path, command=["msgrpo", "bench", "learn"], overrides=list(overrides))
        rows = list(read_lines(run.metrics))
    return {
        **reached(rows),
        "target": TARGET,
        "base": next(row["success_rate"] for row in rows if row["kind"] != "train"),
        "seed": config.seed,
        "machine": machine(torch.device(device_for(config.trainer))),
    }


def reached(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """When the first evaluation after an update reached the target; None where none did."""
    seconds = decisions = 0.0
    split = None  # of the evaluations during the run, of which the base's is the first
    for row in rows:
        if row["kind"] == "train":
            seconds += row["perf/seconds_total"]
            decisions += row["steps_played"]
            continue
        split = split or row["split"]
        if row["update"] and row["split"] == split and row["success_rate"] >= TARGET:
            return {
                "reached": True,
                "update": row["update"],
                "seconds_to_target": seconds,
                "decisions_to_target": int(decisions),
            }
    return {"reached": False, "update": None, "seconds_to_target": None, "decisions_to_target": None}
