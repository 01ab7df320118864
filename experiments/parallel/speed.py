"""What do two processes of one core each save against one process of one core? Rollout and update, side by side.

Knows metrics of runs. Usage: python experiments/parallel/speed.py [OVERRIDES...]; needs two free cores. Runs by one and
by two processes take turns, ROUNDS times; the first update of each is left out. Prints one JSON object: seconds
(medians) by each, and the ratio one / two with the lowest and the highest of the rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

ROUNDS = int(os.environ.get("ROUNDS", "5"))
PHASES = ("perf/seconds_rollout", "perf/seconds_scoring", "perf/seconds_update", "perf/seconds_total")


def main() -> None:
    overrides = sys.argv[1:]
    seconds: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for count in (1, 2):
            seconds[count].append(measured(count, overrides))
    found: dict[str, Any] = {"overrides": overrides, "rounds": ROUNDS}
    for phase in PHASES:
        ratios = sorted(one[phase] / two[phase] for one, two in zip(seconds[1], seconds[2], strict=True))
        name = phase.removeprefix("perf/seconds_")
        found[name] = {
            "one": median(one[phase] for one in seconds[1]),
            "two": median(two[phase] for two in seconds[2]),
            "one / two": [median(ratios), ratios[0], ratios[-1]],
        }
    print(json.dumps(found))


def measured(count: int, overrides: list[str]) -> dict[str, float]:
    """Medians over the updates of one run but its first."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shared = [f"parallel={'ddp' if count > 1 else 'none'}", f"parallel.processes={count if count > 1 else 'null'}"]
        length = ["max_updates=5", "eval.every=0", "eval.episodes=4", "save.every=99", f"hydra.run.dir={run}"]
        command = [sys.executable, "-m", "msgrpo_cli", "train", *length, *overrides, *shared]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    updates = [row for row in rows if row["kind"] == "train"][1:]
    return {phase: median(row[phase] for row in updates) for phase in PHASES}


if __name__ == "__main__":
    main()
