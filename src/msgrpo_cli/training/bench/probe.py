"""`msgrpo plan --probe`: two real updates with random weights, in a child process and a folder that is thrown away.

Knows how a config is changed for it and which rows of metrics tell the figures. Knows nothing about estimates.
Everything heavy is imported in the child, where peak memory is that of these two updates alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from msgrpo_cli.algo.episode_sampling import draw_episodes
from msgrpo_cli.common.files import write_text
from msgrpo_cli.common.importing import importing
from msgrpo_cli.common.jsonl import read_lines
from msgrpo_cli.common.memory import growth_of_peak, resident_memory
from msgrpo_cli.common.seeding import generator
from msgrpo_cli.config.saved import load_saved, saved_text
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import RunError
from msgrpo_cli.rollout.collect import PlayedUpdate, UpdateRules, play_update
from msgrpo_cli.runs.directory import Run

UPDATES = 2
_CHANGED = {
    "model": {"init": "random"},
    "eval": {"every": 0, "episodes": 1, "scenarios": None},
    "save": {"every": UPDATES, "keep_last": 1, "keep_best": False},
    "parallel": {"name": "none", "processes": None},
}


def probe(config: RunConfig) -> dict[str, Any]:
    """Seconds and bytes as measured; raises RunError where the child fails."""
    with tempfile.TemporaryDirectory(prefix="msgrpo-probe-") as folder:
        saved = Path(folder) / "config.yaml"
        write_text(saved, saved_text(probed(config)))
        ended = subprocess.run(
            [
                sys.executable,
                "-c",
                "from msgrpo_cli.training.bench.probe import main; main()",
                str(saved),
                *modules(config),
            ],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        if ended.returncode:
            said = [line for line in ended.stderr.splitlines() if line.strip()] or [f"exit code {ended.returncode}"]
            raise RunError(f"--probe: the two updates failed: {said[-1].removeprefix('error: ')}")
        found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return found


def probed(config: RunConfig) -> RunConfig:
    """The config with random weights, two updates and hardly an evaluation.

    Noise would play one and the same action, so a random one is played. What the episodes are worth is `judged`.
    """
    data = config.model_dump()
    for section, keys in _CHANGED.items():
        data[section] |= keys
    data["max_updates"], data["max_hours"] = UPDATES, None
    data["algo"]["invalid_action"] = "random"
    data["stop"] |= {"score": None, "success": None, "on_collapse": False}
    data["guard"] |= {"grad_norm": None, "log_ratio": None}
    data["trainer"]["report_to"] = "none"
    return RunConfig.model_validate(data)


def modules(config: RunConfig) -> list[str]:
    """A game of the user's own may be imported: it was named on this command line."""
    from msgrpo_cli.config.compose import ids_of

    return [name.partition(":")[0] for name in ids_of(config.env.model_dump()) if ":" in name]


def main() -> None:
    """In the child: trains, then prints one JSON object on the last line."""
    saved, *allowed = sys.argv[1:]
    config = load_saved(Path(saved), allowed)
    with importing():
        from msgrpo_cli.models.precision import device_for

        from ..train import train_job  # and with it every library

    before, device = resident_memory(), device_for(config.trainer)
    run = Run(Path(saved).parent / "run")
    stdout = os.dup(1)
    os.dup2(2, 1)  # whatever libraries print
    train_job(config, run.path, command=["msgrpo", "plan", "--probe"], overrides=[], play=judged)
    found = figures([row for row in read_lines(run.metrics) if row["kind"] == "train"])
    found |= {"memory_total": growth_of_peak(device, before), "libraries": before}
    os.write(stdout, (json.dumps(found, allow_nan=False) + "\n").encode())


def judged(update: int, rules: UpdateRules, *others: Any) -> PlayedUpdate:
    """Play an update that trains on as many episodes as a run's would: noise often plays groups without difference."""
    return worth_training(play_update(update, rules, *others), rules)


def worth_training(played: PlayedUpdate, rules: UpdateRules) -> PlayedUpdate:
    """The same episodes, every other one of them with the advantage 1, the rest with -1, and drawn by the rules."""
    number_E = np.arange(len(played.episodes))
    advantage_E = np.where(number_E % 2, 1.0, -1.0)
    draw = draw_episodes(
        advantage_E,
        number_E // rules.group_size,
        rules.episode_sampling,
        generator((rules.seed, played.update, "draw")),
        fraction=rules.sample_fraction,
        scope=rules.sampling_scope,
    )
    alike = [np.full(len(one.steps), worth) for one, worth in zip(played.episodes, advantage_E, strict=True)]
    return replace(played, advantages=tuple(alike), draw=draw)


def figures(rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the two updates: the second's seconds, as the first also warms up; the means of what was played."""
    return {
        "updates": len(rows),
        "seconds_per_update": rows[-1]["perf/seconds_total"],
        "seconds_rollout": rows[-1]["perf/seconds_rollout"],
        "seconds_training": rows[-1]["perf/seconds_total"] - rows[-1]["perf/seconds_rollout"],
        "decisions_per_update": mean(row["steps_played"] for row in rows),
        "rows_per_update": mean(row["rows"] for row in rows),
        "skipped": any(row["skipped"] for row in rows),
    }
