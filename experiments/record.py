"""Turns finished run directories into results.csv (a line per run) and curve.png (validation success by update).

Knows run directories and their JSON. Usage: python record.py FOLDER RUN...; both files are written to FOLDER.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLUMNS = (
    "run", "seed", "max_steps", "updates", "base_success", "base_low", "base_high", "base_greedy", "success", "low",
    "high", "greedy", "random", "optimal", "distinct_starts", "wall_seconds", "cpu_seconds", "threads", "commit",
)  # fmt: skip


def result(run: Path) -> dict[str, Any]:
    """One line: base and best checkpoint on the same test starts."""
    record, base, best = (
        json.loads((run / name).read_text()) for name in ("run.json", "eval/base.json", "eval/best.json")
    )
    first = json.loads((run / "episodes.jsonl").open().readline())
    values = dict(line.split("=", 1) for line in record["overrides"] if "=" in line)
    return {
        "run": run.name,
        "seed": values.get("seed", 0),
        "max_steps": values.get("env.max_steps", 8 if first["env"] == "frozenlake" else ""),
        "updates": record["summary"]["last"]["update"],
        "base_success": base["success_rate"],
        "base_low": base["success_ci95"][0],
        "base_high": base["success_ci95"][1],
        "base_greedy": base["greedy_success_rate"],
        "success": best["success_rate"],
        "low": best["success_ci95"][0],
        "high": best["success_ci95"][1],
        "greedy": best["greedy_success_rate"],
        "random": best["random_score"],
        "optimal": best["optimal_score"],
        "distinct_starts": best["distinct_initial_states"],
        "wall_seconds": record["process_wall_seconds"],
        "cpu_seconds": record["process_cpu_seconds"],
        "threads": record["threads"],
        "commit": record["commit"],
    }


def draw(runs: list[Path], out: Path) -> None:
    """Success on validation against updates, sampled (solid) and greedy (dashed), one pair of lines per run."""
    axes = (figure := Figure(figsize=(7, 4), dpi=120, layout="constrained")).subplots()
    for run, colour in zip(runs, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=False):
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        shown = [row for row in rows if row["kind"] == "eval" and row["split"] == "validation"]
        updates = [row["update"] for row in shown]
        axes.plot(updates, [row["success_rate"] for row in shown], "o-", color=colour, label=f"{run.name}, sampled")
        greedy = [row["greedy_success_rate"] for row in shown]
        axes.plot(updates, greedy, "s--", color=colour, alpha=0.6, markersize=4, label=f"{run.name}, greedy")
    axes.set(xlabel="update", ylabel="success on validation", ylim=(0, 1.02))
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
