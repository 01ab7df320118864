"""Runs every benchmark that is not in results.csv yet, one after another, and adds its figures: a line per figure.

Knows commands and JSON. Usage: python record.py [PATTERN], which a name
begins with; needs an idle machine. Delete lines to measure
them again. OMP_NUM_THREADS (2 where it is not set) is told with every figure. MSGRPO_VLLM_PYTHON names the interpreter
of an environment that has vLLM: what needs one is left out where it is not set.
"""

from __future__ import annotations

import csv
import json
import os
import re
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
THREADS = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
MODELS = {"tiny": [], "30m": ["experiment=bench"]}
MICRO = ["trainer.per_device_train_batch_size=32"]  # full at 64 episodes already
SEEDS = (1, 2, 3)
ONE_GROUP = ["experiment=bench", "algo.groups_per_update=1"]
VLLM = "$MSGRPO_VLLM_PYTHON"  # recorded by this name
SMOLLM2 = ["model=smollm2-135m-gguf", "prompt=action_only", "prompt.observation=compact", "rollout.max_new_tokens=8",
           "rollout.max_prompt_tokens=500", "algo.groups_per_update=4"]  # fmt: skip
TURNS = ["experiment=smollm2_frozenlake", "algo.groups_per_update=4"]
FULL = ["prompt=action_only", "prompt.observation=full", "rollout.max_prompt_tokens=500"]


def bench(what: str, *arguments: str) -> list[str]:
    return ["msgrpo", "bench", what, *arguments, "--json"]


COMMANDS = {
    **{f"{what} {model}": bench(what, *chosen) for model, chosen in MODELS.items() for what in OFF},
    "startup tiny": ["startup.py"],
    "peers rollout tiny": ["peers.py", "rollout"],
    "peers update tiny": ["peers.py", "update"],
    **{
        f"{what} tiny {groups * 16} episodes": bench(what, f"algo.groups_per_update={groups}", *MICRO)
        for what in OFF
        for groups in (4, 16, 64)
    },
    **{f"learn tiny seed {seed}": bench("learn", f"seed={seed}", "eval.every=5") for seed in SEEDS},
    "peers learn tiny seed 1": ["peers.py", "learn", "seed=1", "eval.every=5", "max_updates=60"],  # never begins to win
    "peers tools tiny": ["peer_tools.py"],
    "costs tiny": ["costs.py"],
    "costs tiny separate": ["costs.py", *OFF.values()],
    "costs 30m": ["costs.py", "experiment=bench"],
    "levers 30m": ["levers.py"],
    **{
        f"beginnings tiny {name}": ["beginnings.py", *FULL, *chosen]
        for name, chosen in {"frozenlake": [], "snake_8": ["env=snake_8", "algo.groups_per_update=4"]}.items()
    },
    "beginnings tiny frozenlake compact": ["beginnings.py"],
    "beginnings 30m": ["beginnings.py", *ONE_GROUP],
    "engines 30m": ["engines.py", *ONE_GROUP],
    "engines vllm 30m": ["engines.py", "--vllm", VLLM, *ONE_GROUP],
    "engines vllm smollm2": ["engines.py", "--vllm", VLLM, "--without", "transformers", "--rounds", "3", *SMOLLM2],
    "engines vllm smollm2 turns": ["engines.py", "--vllm", VLLM, "--without", "transformers", "--rounds", "3", *TURNS],
    **{
        f"{what} {model} separate": bench(what, *chosen, switch, "--repeats", "3" if chosen else "5")
        for model, chosen in MODELS.items()
        for what, switch in OFF.items()
    },
}
"""By name: `msgrpo` and its arguments, or a program beside this one and its."""


def main() -> None:
    done = {line["benchmark"] for line in csv.DictReader(RESULTS.open())} if RESULTS.exists() else set()
    program = str(Path(sys.executable).parent / "msgrpo")
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    if "help" not in done and re.match(wanted, "help"):
        add("help", {"seconds": median(seconds([program, "--help"]) for _ in range(9))}, "msgrpo --help")
    for name, (first, *arguments) in COMMANDS.items():
        if name in done or not re.match(wanted, name):
            continue
        if VLLM in arguments and not os.environ.get(VLLM[1:]):
            print(f"{name}: left out, {VLLM[1:]} is not set", file=sys.stderr)
            continue
        print(name, file=sys.stderr)
        run = [program] if first == "msgrpo" else [sys.executable, str(HERE / first)]
        ended = subprocess.run(
            [*run, *map(os.path.expandvars, arguments)], capture_output=True, text=True, env={**os.environ, **THREADS}
        )
        if ended.returncode:
            print(ended.stderr[-2000:], file=sys.stderr)
            continue
        figures: dict[str, Any] = json.loads(ended.stdout)
        if "machine" in figures:
            MACHINE.write_text(json.dumps(figures.pop("machine"), indent=2) + "\n")
        typed = [first] if first == "msgrpo" else ["python", first]
        add(name, figures, " ".join([*map("=".join, THREADS.items()), *typed, *arguments]))


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - began


def git(*arguments: str) -> str:
    top = HERE.parent.parent
    return subprocess.run(["git", *arguments], cwd=top, capture_output=True, text=True, check=True).stdout.strip()


def add(name: str, figures: dict[str, Any], command: str) -> None:
    commit = git("rev-parse", "--short", "HEAD") + ("-dirty" if git("status", "--porcelain", "*.py", "*.yaml") else "")
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        lines = csv.writer(file)
        if new:
            lines.writerow(COLUMNS)
        for figure, value in figures.items():
            shown = f"{value:.6g}" if isinstance(value, float) else value
            lines.writerow([name, figure, shown, command, commit, time.strftime("%Y-%m-%d")])


if __name__ == "__main__":
    main()
