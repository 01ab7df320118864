"""reads.csv, reads.png: does a policy read where it stands, or only know which way the goal lies as a rule?

Knows the compact text of frozen lakes in episodes.jsonl. Usage: python reads.py FOLDER RUN...

Of all valid steps of an update, where they lead in three places:
hole    one of the cells to the right and below is a hole, the other frozen: how often, of right and down, to the frozen
edge    one of the two is off the board, the other frozen: how often to the frozen one
goal    one of the two is the goal: how often there
Whoever goes right as often as down, whatever the text says, has a half in all three. Before them, the share of an
update's episodes that succeed, with a dot where larger lakes begin.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from pathlib import Path

from matplotlib.figure import Figure

MOVES = {"right": (0, 1), "down": (1, 0)}
PLACES = {"hole": ({"O", "."}, "."), "edge": ({"", "."}, "."), "goal": ({"G"}, "G")}
"""What stands to the right and below, and what had better be entered."""


def ahead(text: str) -> dict[str, str]:
    """What stands to the right and below, by the drawing; "" off the board. Empty where nobody stands on the board."""
    board = [line.split() for line in text.partition("\nAround")[0].splitlines() if line != "slippery"]
    for row, line in enumerate(board):
        if "P" in line:
            column, size = line.index("P"), len(board)
            return {
                name: board[row + down][column + right] if row + down < size and column + right < size else ""
                for name, (down, right) in MOVES.items()
            }
    return {}


def lines_of(run: Path) -> list[dict[str, object]]:
    there, well = Counter[tuple[int, str]](), Counter[tuple[int, str]]()
    with (run / "episodes.jsonl").open() as file:
        for episode in map(json.loads, file):
            for step in episode["steps"] if episode["kind"] == "train" else []:
                before = ahead(step["observation"])
                if not step["valid"] or step["action"] not in before:
                    continue
                for place, (needed, better) in PLACES.items():
                    if set(before.values()) == needed or (place == "goal" and "G" in before.values()):
                        there[episode["update"], place] += 1
                        well[episode["update"], place] += before[step["action"]] == better
    return [
        {
            "run": run.name,
            "update": update,
            "place": place,
            "steps": count,
            "share": round(well[update, place] / count, 4),
        }
        for (update, place), count in sorted(there.items())
    ]


def main() -> None:
    folder, runs = Path(sys.argv[1]), [Path(text) for text in sys.argv[2:]]
    lines = [line for run in runs for line in lines_of(run)]
    with (folder / "reads.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ("run", "update", "place", "steps", "share"))
        writer.writeheader()
        writer.writerows(lines)
    figure = Figure(figsize=(11, 3.2), dpi=120, layout="constrained")
    of_all, *of_places = figure.subplots(1, 4, sharey=True)
    for run in runs:
        rows = [row for row in map(json.loads, (run / "metrics.jsonl").open()) if row["kind"] == "train"]
        [drawn] = of_all.plot([row["update"] for row in rows], [row["success_rate"] for row in rows], label=run.name)
        larger = [row for row in rows if row["curriculum_value"] > rows[0]["curriculum_value"]]
        of_all.plot(
            [row["update"] for row in larger[:1]],
            [row["success_rate"] for row in larger[:1]],
            "o",
            color=drawn.get_color(),
        )
    of_all.set(title="episodes that succeed", xlabel="update", ylim=(0, 1.02))
    of_all.grid(alpha=0.3)
    for axes, place in zip(of_places, PLACES, strict=True):
        for run in runs:
            shown = [line for line in lines if line["run"] == run.name and line["place"] == place]
            axes.plot([line["update"] for line in shown], [line["share"] for line in shown], label=run.name)
        axes.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
        axes.set(title=f"beside {'the goal' if place == 'goal' else 'an edge' if place == 'edge' else 'a hole'}")
        axes.set(xlabel="update", ylim=(0, 1.02))
        axes.grid(alpha=0.3)
    figure.axes[1].set(ylabel="steps the better way")
    figure.axes[-1].legend(fontsize=8)
    figure.savefig(folder / "reads.png")


if __name__ == "__main__":
    main()
