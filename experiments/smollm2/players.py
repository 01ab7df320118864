"""players.csv: who wins how often on the same held-out starts, and whether the trained model beats its base there.

Knows run directories and what `msgrpo eval --json` printed of reference players. Usage: python players.py FOLDER
RUN...; FOLDER/reference.jsonl holds a line for each reference player, where there is one.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

from msgrpo_cli.analysis.compare import effect_of

COLUMNS = (
    "run", "player", "episodes", "success", "low", "high", "greedy", "valid_actions", "mean_length", "gain", "gain_low",
    "gain_high", "p_value", "better", "worse",
)  # fmt: skip
"""gain to worse: of the best checkpoint over the base with the same prompt, start by start (permutation test)."""


def line(run: str, player: str, score: dict[str, Any]) -> dict[str, Any]:
    low, high = score["success_ci95"]
    return {
        "run": run,
        "player": player,
        "episodes": score["episodes"],
        "success": score["success_rate"],
        "low": round(low, 4),
        "high": round(high, 4),
        "greedy": score.get("greedy_success_rate"),
        "valid_actions": round(score["valid_action_rate"], 4),
        "mean_length": round(score["mean_length"], 2),
    }


def wins(file: Path) -> dict[tuple[int, int], float]:
    """By the seed and number of the episode."""
    rows = [json.loads(text) for text in file.read_text().splitlines()]
    return {(number, row["seed"]): float(row["success"]) for number, row in enumerate(rows)}


def lines_of(run: Path) -> list[dict[str, Any]]:
    scores = {name: json.loads((run / "eval" / f"{name}.json").read_text()) for name in ("base", "best")}
    base, best = (wins(run / "eval" / f"{name}.episodes.jsonl") for name in ("base", "best"))
    assert base.keys() == best.keys(), run
    effect = effect_of("success", list(base.values()), [best[key] for key in base])
    low, high = effect.ci95 or (None, None)
    gain = {
        "gain": round(effect.effect, 4),
        "gain_low": low,
        "gain_high": high,
        "p_value": effect.p_value,
        "better": effect.second_better,
        "worse": effect.first_better,
    }
    return [line(run.name, "base", scores["base"]), line(run.name, "best", scores["best"]) | gain]


def main() -> None:
    folder, runs = Path(sys.argv[1]), [Path(text) for text in sys.argv[2:]]
    told = folder / "reference.jsonl"
    known = [json.loads(text) for text in told.read_text().splitlines()] if told.exists() else []
    with (folder / "players.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(line("", str(score["policy"]), score) for score in known)
        for run in runs:
            writer.writerows(lines_of(run))


if __name__ == "__main__":
    main()
