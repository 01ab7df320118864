"""players.csv: who wins how often on the same held-out starts, and whether the trained model beats its base there.

Knows run directories and what `msgrpo eval --json` printed of reference players. Usage: python players.py FOLDER
RUN...; FOLDER/runs/reference.jsonl holds a line for each reference player, where there is one.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
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


def pairs(run: Path) -> Iterator[tuple[str, str]]:
    """Names of evaluations of the base and of the best checkpoint on the same starts: those that ended the run, then
    those of `msgrpo eval`."""
    yield "base", "best"
    said = {file.stem: json.loads(file.read_text()) for file in sorted((run / "eval").glob("*-test-*.json"))}
    bases = {said[name]["episodes"]: name for name in said if name.startswith("base-")}
    yield from ((bases[said[name]["episodes"]], name) for name in said if not name.startswith("base-"))


def lines_of(run: Path, base_name: str, best_name: str) -> list[dict[str, Any]]:
    base_said, best_said = (json.loads((run / "eval" / f"{name}.json").read_text()) for name in (base_name, best_name))
    base, best = (wins(run / "eval" / f"{name}.episodes.jsonl") for name in (base_name, best_name))
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
    return [line(run.name, "base", base_said), line(run.name, "best", best_said) | gain]


def main() -> None:
    folder, runs = Path(sys.argv[1]), [Path(text) for text in sys.argv[2:]]
    told = folder / "runs" / "reference.jsonl"
    known = [json.loads(text) for text in told.read_text().splitlines()] if told.exists() else []
    with (folder / "players.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(line("", str(score["policy"]), score) for score in known)
        for run in runs:
            for names in pairs(run):
                writer.writerows(lines_of(run, *names))


if __name__ == "__main__":
    main()
