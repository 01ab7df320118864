"""Turns finished run directories into results.csv (a line per run) and curve.png (validation score by update).

Knows run directories and their JSON. Usage: python record.py FOLDER RUN...; both files are written to FOLDER.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

COLUMNS = (
    "run", "env", "seed", "max_steps", "updates", "base_success", "base_low", "base_high", "base_greedy", "success",
    "low", "high", "greedy", "base_reward", "base_reward_low", "base_reward_high", "base_greedy_reward", "reward",
    "reward_low", "reward_high", "greedy_reward", "random", "optimal", "optimal_is_exact", "base_metrics", "metrics",
    "distinct_starts", "wall_seconds", "cpu_seconds", "threads", "commit",
)  # fmt: skip
"""success and low to high are empty where a game declares no success; rewards are mean total rewards."""


def result(run: Path) -> dict[str, Any]:
    """One line: base and best checkpoint on the same test starts."""
    record, base, best = (
        json.loads((run / name).read_text()) for name in ("run.json", "eval/base.json", "eval/best.json")
    )
    values = dict(line.split("=", 1) for line in record["overrides"] if "=" in line)
    return {
        "run": run.name,
        "env": best["env"],
        "seed": values.get("seed", 0),
        "max_steps": yaml.safe_load((run / "config.yaml").read_text())["env"]["max_steps"],
        "updates": max(json.loads(row)["update"] for row in (run / "metrics.jsonl").read_text().splitlines()),
        "base_success": base["success_rate"],
        **_interval("base_low", "base_high", base["success_ci95"]),
        "base_greedy": base["greedy_success_rate"],
        "success": best["success_rate"],
        **_interval("low", "high", best["success_ci95"]),
        "greedy": best["greedy_success_rate"],
        "base_reward": base["mean_total_reward"],
        **_interval("base_reward_low", "base_reward_high", base["mean_total_reward_ci95"]),
        "base_greedy_reward": base["greedy_mean_total_reward"],
        "reward": best["mean_total_reward"],
        **_interval("reward_low", "reward_high", best["mean_total_reward_ci95"]),
        "greedy_reward": best["greedy_mean_total_reward"],
        "random": best["random_score"],
        "optimal": best["optimal_score"],
        "optimal_is_exact": best["optimal_is_exact"],
        "base_metrics": json.dumps(base["game_metrics"]),
        "metrics": json.dumps(best["game_metrics"]),
        "distinct_starts": best["distinct_initial_states"],
        "wall_seconds": record["process_wall_seconds"],
        "cpu_seconds": record["process_cpu_seconds"],
        "threads": record["threads"],
        "commit": record["commit"],
    }


def _interval(low: str, high: str, ends: list[float] | None) -> dict[str, float | None]:
    return {low: ends[0] if ends else None, high: ends[1] if ends else None}


def draw(runs: list[Path], out: Path) -> None:
    """Success (else mean total reward) on validation against updates, sampled (solid) and greedy (dashed)."""
    axes = (figure := Figure(figsize=(7, 4), dpi=120, layout="constrained")).subplots()
    for run, colour in zip(runs, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=False):
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        shown = [row for row in rows if row["kind"] == "eval" and row["split"] == "validation"]
        updates = [row["update"] for row in shown]
        what = "success_rate" if all(row["success_rate"] is not None for row in shown) else "mean_total_reward"
        axes.plot(updates, [row[what] for row in shown], "o-", color=colour, label=f"{run.name}, sampled")
        greedy = [row[f"greedy_{what}"] for row in shown]
        axes.plot(updates, greedy, "s--", color=colour, alpha=0.6, markersize=4, label=f"{run.name}, greedy")
    axes.set(xlabel="update", ylabel=f"{what.replace('_', ' ')} on validation".replace("success rate", "success"))
    if what == "success_rate":
        axes.set(ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(out)


def main() -> None:
    folder, runs = Path(sys.argv[1]), [Path(text) for text in sys.argv[2:]]
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(result(run) for run in runs)
    draw(runs, folder / "curve.png")


if __name__ == "__main__":
    main()
