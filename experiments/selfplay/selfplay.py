"""How far from unbeatable is who learns by self-play? Runs the arms, measures every checkpoint: `python selfplay.py`.

Knows `experiment.yaml`, the command line (`msgrpo train`, `msgrpo lab nash`) and run directories; how runs are made,
seeds compared and curves drawn is `compare`'s. A run that is in the committed `results.csv` is not repeated;
`table.md`, `summary.json` and `curve.png` are made of `results.csv` alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from compare import Experiment, beside_the_first, compared, draw_curves, lines_of, over_seeds, run_all, spread  # noqa: E402

COLUMNS = (
    "game", "arm", "seed", "updates", "base", "last", "least", "reached", "curve", "uncovered", "base_reward", "reward",
    "training_seconds", "wall_seconds", "decisions", "tokens_trained", "overrides", "commit",
)  # fmt: skip
"""`base`, `last` and `least` are exploitabilities: of the base, of the last checkpoint, and the least of all; `curve`
holds [update, exploitability] of every one; `reached` is the first update with at most a quarter of the base's.
`uncovered` is the last checkpoint's mean over information sets. `base_reward` and `reward` are mean total rewards
against random play, both roles, at the run's end: base and best checkpoint."""


def lab_nash(*words: str) -> list[dict[str, Any]]:
    """What the command says of each policy."""
    command = [sys.executable, "-m", "msgrpo_cli", "lab", "nash", *words, "eval.episodes=2", "--json"]
    said = json.loads(subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True).stdout)
    return said if isinstance(said, list) else [said]


@cache
def base(experiment: str) -> float:
    """The exploitability of what every run of it begins with."""
    return float(lab_nash(experiment)[0]["exploitability"])


def figures(run: Path) -> dict[str, Any]:
    """What a finished run and its checkpoints say, in the columns of results.csv."""
    record, start, best = (
        json.loads((run / name).read_text()) for name in ("run.json", "eval/base.json", "eval/best.json")
    )
    overrides = [word for word in record["overrides"] if not word.startswith("hydra.run.dir=")]
    first = base(next(word for word in overrides if word.startswith("experiment=")))
    found = lab_nash(str(run), "--all")
    curve = [(0, first), *((int(one["checkpoint"].rsplit("-", 1)[1]), one["exploitability"]) for one in found)]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["kind"] == "train"]
    return {
        "updates": trained[-1]["update"],
        "base": first,
        "last": curve[-1][1],
        "least": min(measured for _, measured in curve),
        "reached": next((update for update, measured in curve if measured <= first / 4), None),
        "curve": json.dumps([[update, round(measured, 4)] for update, measured in curve]),
        "uncovered": found[-1]["uncovered"]["mean"],
        "base_reward": start["mean_total_reward"],
        "reward": best["mean_total_reward"],
        "training_seconds": sum(row["perf/seconds_total"] for row in trained),
        "wall_seconds": record["process_wall_seconds"],
        "decisions": sum(row["steps_played"] for row in trained),
        "tokens_trained": sum(row["tokens_prompt"] + row["tokens_completion"] for row in trained),
        "overrides": " ".join(overrides),
        "commit": record["commit"],
    }


def summary(experiment: Experiment) -> dict[str, Any]:
    """For every game: the last checkpoint's exploitability, each arm over its seeds and beside the first arm."""
    lines = lines_of(experiment)
    return {
        game: beside_the_first(
            {
                arm: {int(x["seed"]): float(x["last"]) for x in lines if (x["game"], x["arm"]) == (game, arm)}
                for arm in experiment.arms
            }
        )
        for game in experiment.games
    }


def table(experiment: Experiment, found: Mapping[str, Any]) -> str:
    """Markdown: a table for every game."""
    text: list[str] = []
    for game in experiment.games:
        text += [f"### {game}", ""]
        if not found[game]:
            text += ["not run", ""]
            continue
        text += [
            "| arm | seeds | exploitability, last checkpoint | best run | least on the way "
            "| a quarter of the base's by update "
            "| reward against random play, base and last | training s | last, against the first |",
            "|" + "---|" * 9,
        ]
        for arm, last in found[game].items():
            mine = [x for x in lines_of(experiment) if (x["game"], x["arm"]) == (game, arm)]
            rewards = [np.mean([float(x[column]) for x in mine]) for column in ("base_reward", "reward")]
            least = spread(over_seeds([float(x["least"]) for x in mine]))
            cells = [
                arm, str(last["seeds"]), spread(last), f"{last['worst']:.3f}", least, _reached(mine),
                " and ".join(f"{reward:.3f}" for reward in rewards),
                f"{np.median([float(x['training_seconds']) for x in mine]):.0f}", compared(last["difference"]),
            ]  # fmt: skip
            text.append(f"| {' | '.join(cells)} |")
        text += ["", f"The base has {float(mine[0]['base']):.3f}.", ""]
    return "\n".join(text)


def _reached(lines: Sequence[Mapping[str, str]]) -> str:
    reached = [float(x["reached"]) for x in lines if x["reached"]]
    return f"{np.median(reached):.0f} ({len(reached)} of {len(lines)})" if reached else f"never (of {len(lines)})"


def main() -> int:
    experiment = Experiment.read(HERE)
    failed = run_all(experiment, sys.argv[1:] or list(experiment.games), COLUMNS, figures)
    found = summary(experiment)
    (HERE / "summary.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (HERE / "table.md").write_text(table(experiment, found), encoding="utf-8")
    draw_curves(experiment, "exploitability", 0.0)
    return failed


if __name__ == "__main__":
    sys.exit(main())
