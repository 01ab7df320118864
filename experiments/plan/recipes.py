"""What one, eight and 64 GPUs can train, by `msgrpo plan`: recipes.csv, and the table of docs/scaling.md.

Knows which keys are tried, the gentlest first. Loads no weights and needs no GPU; nothing of it was run on one.
Usage: python recipes.py [recipes.csv]; prints the table.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from msgrpo_cli.config.compose import compose
from msgrpo_cli.planning.hardware import named
from msgrpo_cli.planning.plan import Plan, plan, replanned

MODELS = ("qwen3b", "qwen7b", "qwen14b", "qwen32b", "qwen72b")
GPU, IN_A_MACHINE = "h100", 8
PLACES = (1, 8, 64)
WORK = ["env=snake_8", "algo.groups_per_update=64", "algo.group_size=8"]
"""The same for all, so that seconds can be compared: 512 games of at most eight steps; a group for each of 64 GPUs."""
FROZEN = ["lora.enabled=true", "model.dtype=bfloat16"]
WAYS = {"whole": [], "LoRA": FROZEN, "LoRA, 4 bit": [*FROZEN, "lora.quantization=4bit"]}
SMALL = ["trainer.per_device_train_batch_size=1", "rollout.max_live_episodes=16"]
PARTS = ("weights", "optimizer", "gradients", "buckets", "gathered", "activations", "logits", "kv_cache")
COLUMNS = (
    "model",
    "gpus",
    "trained",
    "fits",
    "memory_gb",
    "available_gb",
    "phase",
    *PARTS,
    "rollout_s",
    "training_s",
    "command",
)


def shares(gpus: int, way: str) -> Iterator[list[str]]:
    """How so many GPUs may share the work, the simplest first; quantized weights are not shared out."""
    if gpus == 1:
        yield []
        return
    nodes = [f"parallel.nodes={gpus // IN_A_MACHINE}"] if gpus > IN_A_MACHINE else []
    for name in ("ddp",) if "4 bit" in way else ("ddp", "fsdp"):
        yield [f"parallel={name}", f"parallel.processes={IN_A_MACHINE}", *nodes]


def tried(model: str, gpus: int, first: Plan) -> Iterator[dict[str, Any]]:
    """Until something fits, as rows of recipes.csv; `first`: the model's plan without any of these keys."""
    for way, keys in WAYS.items():
        for share in shares(gpus, way):
            for less in ([], SMALL):
                overrides = [*keys, *share, *less]
                row = {"model": model, "gpus": gpus, "trained": way, **figures(replanned(first, values(overrides)))}
                hardware = f"{min(gpus, IN_A_MACHINE)}x{GPU}"
                row["command"] = f"msgrpo plan model={model} {' '.join([*WORK, *overrides])} --hardware {hardware}"
                yield row
                if row["fits"]:
                    return


def values(overrides: Sequence[str]) -> dict[str, Any]:
    """As `replanned` takes them: it plays no games anew, which takes most of the time."""
    pairs = [text.split("=") for text in overrides]
    return {"parallel.name" if key == "parallel" else key: yaml.safe_load(value) for key, value in pairs}


def planned(model: str) -> Plan:
    """Of the model alone, on one GPU."""
    return plan(compose("train", [f"model={model}", *WORK]), named(GPU), here=False)


def figures(found: Plan) -> dict[str, Any]:
    """Of one GPU; parts that are held at different times do not add up to the most."""
    memory = found.memory
    return {
        "fits": found.fits,
        "memory_gb": _gb(memory.total),
        "available_gb": _gb(found.available),
        "phase": max(memory.phases, key=lambda name: memory.phases[name]),
        **{name: _gb(memory.parts[name]) for name in PARTS},
        "rollout_s": round(found.time.rollout),
        "training_s": round(found.time.training),
    }


def _gb(size: float) -> float:
    return round(size / 1e9, 1)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The last row of each model and number of GPUs: the one that fits, or that none does."""
    last = {(row["model"], int(row["gpus"])): row for row in rows}
    lines = [
        "| model | GPUs | `msgrpo train model=...` and | GB of each GPU, by part | of 80, when | seconds an update |",
        "|---|---|---|---|---|---|",
    ]
    for (model, gpus), row in last.items():
        told = row["command"].removeprefix("msgrpo plan ").partition(" --hardware")[0].split()
        keys = " ".join(word for word in told if word not in WORK and not word.startswith("model="))
        parts = ", ".join(f"{name.replace('_', ' ')} {row[name]}" for name in PARTS if float(row[name]) >= 1)
        most = f"{row['memory_gb']}, {row['phase']}"
        typed, seconds = _code(keys), f"{row['rollout_s']} playing + {row['training_s']} training"
        if str(row["fits"]) != "True":
            typed, seconds = f"**does not fit**, not even {typed}", ""
        lines.append(f"| `{model}` | {gpus} | {typed} | {parts} | {most} | {seconds} |")
    return "\n".join(lines)


def _code(keys: str) -> str:
    return f"`{keys}`" if keys else "nothing more"


def main() -> None:
    rows = []
    for model in MODELS:
        first = planned(model)
        rows += [row for gpus in PLACES for row in tried(model, gpus, first)]
    with Path(sys.argv[1] if len(sys.argv) > 1 else "recipes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(table(rows))


if __name__ == "__main__":
    main()
