"""Runs every benchmark that is not in results.csv yet, one after another, and adds its figures: a line per figure.

Knows commands and JSON. Usage: python record.py; needs an idle machine. Delete lines to measure them again.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
RESULTS, MACHINE = HERE / "results.csv", HERE / "machine.json"
COLUMNS = ("benchmark", "figure", "value", "command", "commit", "day")
OFF = {"rollout": "rollout.share_prompts=false", "update": "algo.share_prompts=false"}
MODELS = {"tiny": [], "30m": ["experiment=bench"]}
MICRO = ["trainer.per_device_train_batch_size=32"]  # full at 64 episodes already
BENCH = {
    **{f"{what} {model}": ["bench", what, *chosen] for model, chosen in MODELS.items() for what in OFF},
    **{
        f"{what} {model} separate": ["bench", what, *chosen, switch]
        for model, chosen in MODELS.items()
        for what, switch in OFF.items()
    },
    **{
        f"{what} tiny {groups * 16} episodes": [
            "bench",
            what,
            f"algo.groups_per_update={groups}",
            *MICRO,
            "--repeats",
            "5",
        ]
        for what in OFF
        for groups in (4, 16, 64)
    },
    **{f"learn tiny seed {seed}": ["bench", "learn", f"seed={seed}", "eval.every=5"] for seed in (1, 2, 3)},
}
OTHERS = {
    "startup tiny": ["startup.py"],
    "costs tiny": ["costs.py"],
    "costs tiny separate": ["costs.py", *OFF.values()],
    "costs 30m": ["costs.py", "experiment=bench"],
    "levers 30m": ["levers.py"],
    "peers rollout tiny": ["peers.py", "rollout"],
    "peers update tiny": ["peers.py", "update"],
    "peers tools tiny": ["peer_tools.py"],
    **{
        f"peers learn tiny seed {seed}": ["peers.py", "learn", f"seed={seed}", "eval.every=5", "max_updates=60"]
        for seed in (1, 2, 3)
    },
}


def main() -> None:
    done = {line["benchmark"] for line in csv.DictReader(RESULTS.open())} if RESULTS.exists() else set()
    program = str(Path(sys.executable).parent / "msgrpo")
    commands = {name: [program, *arguments, "--json"] for name, arguments in BENCH.items()}
    commands |= {name: [sys.executable, str(HERE / file), *rest] for name, (file, *rest) in OTHERS.items()}
    if "help" not in done:
        add("help", {"seconds": median(seconds([program, "--help"]) for _ in range(9))}, "msgrpo --help")
    for name, command in commands.items():
        if name in done:
            continue
        print(name, file=sys.stderr)
        ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "2"})
        if ended.returncode:
            print(ended.stderr[-2000:], file=sys.stderr)
            continue
        figures: dict[str, Any] = json.loads(ended.stdout)
        if "machine" in figures:
            MACHINE.write_text(json.dumps(figures.pop("machine"), indent=2) + "\n")
        add(name, figures, " ".join(["OMP_NUM_THREADS=2", Path(command[0]).name, *map(short, command[1:])]))


def short(word: str) -> str:
    return Path(word).name if word.startswith("/") else word


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - began


def add(name: str, figures: dict[str, Any], command: str) -> None:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        lines = csv.writer(file)
        if new:
            lines.writerow(COLUMNS)
        for figure, value in figures.items():
            shown = f"{value:.6g}" if isinstance(value, float) else value
            lines.writerow([name, figure, shown, command, commit.strip(), time.strftime("%Y-%m-%d")])


if __name__ == "__main__":
    main()
