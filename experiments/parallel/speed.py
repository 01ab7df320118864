"""What do two processes of one core each save against one process of one core, and where does the rest go?

Knows metrics of runs. Usage: python experiments/parallel/speed.py [OVERRIDES...]; needs two free cores. Four ways take
turns, ROUNDS times; the first update of each run is left out:

* one: one process;
* half: one process with half of the groups, the other core idle;
* beside: two such at the same time, which know nothing of each other;
* two: two processes of one run.

`one / half` is what half of the work saves, 2 where nothing is done once for all groups; `half / beside` what the
machine takes because the other core works, too; `beside / two` what the processes of one run take by talking, by
waiting for each other, and by doing what each does for all groups. Their product is `one / two`. Prints one JSON
object: seconds (medians) of each way, and these ratios with the lowest and the highest of the rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

from msgrpo_cli.config.compose import compose

ROUNDS = int(os.environ.get("ROUNDS", "5"))
PHASES = ("perf/seconds_rollout", "perf/seconds_scoring", "perf/seconds_update", "perf/seconds_total")
WAYS = ("one", "half", "beside", "two")


def main() -> None:
    overrides = sys.argv[1:]
    rounds = [{way: measured(way, overrides) for way in WAYS} for _ in range(ROUNDS)]
    found: dict[str, Any] = {"overrides": overrides, "rounds": ROUNDS}
    for phase in PHASES:
        seconds = {way: [one[way][phase] for one in rounds] for way in WAYS}
        found[phase.removeprefix("perf/seconds_")] = {
            **{way: median(taken) for way, taken in seconds.items()},
            **{f"{a} / {b}": _ratio(seconds[a], seconds[b]) for a, b in [*pairwise(WAYS), ("one", "two")]},
        }
    print(json.dumps(found))


def _ratio(those: list[float], these: list[float]) -> list[float]:
    ratios = sorted(that / this for that, this in zip(those, these, strict=True))
    return [round(one, 3) for one in (median(ratios), ratios[0], ratios[-1])]


def measured(way: str, overrides: list[str]) -> dict[str, float]:
    """Medians over the updates of one run but its first; of two runs that go on beside each other, their mean."""
    groups = compose("train", overrides).algo.groups_per_update
    shared = ["parallel=ddp", "parallel.processes=2"] if way == "two" else []
    shared += [] if way in ("one", "two") else [f"algo.groups_per_update={groups // 2}"]
    length = ["eval.every=0", "eval.episodes=4", "save.every=99"]
    if not any(one.startswith("max_updates=") for one in overrides):
        length.append("max_updates=5")
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder) / f"run-{number}" for number in range(2 if way == "beside" else 1)]
        train = [sys.executable, "-m", "msgrpo_cli", "train", *length, *overrides, *shared]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        at_work = [
            subprocess.Popen([*train, f"hydra.run.dir={run}"], env=environment, stdout=subprocess.DEVNULL)
            for run in runs
        ]
        codes = [one.wait() for one in at_work]
        if any(codes):
            sys.exit(f"{way}: a run failed")
        found = [_phases(run) for run in runs]
    return {phase: mean(one[phase] for one in found) for phase in PHASES}


def _phases(run: Path) -> dict[str, float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    updates = [row for row in rows if row["kind"] == "train"][1:]
    return {phase: median(row[phase] for row in updates) for phase in PHASES}


if __name__ == "__main__":
    main()
