"""Runs the arms of an experiment with several seeds and says what differs: `python compare.py FOLDER [GAME...]`.

Knows `experiment.yaml`, the command line, run directories and statistics over seeds. A run that is in the committed
`results.csv` is not repeated; a line is added as soon as a run ends. `table.md`, `summary.json` and `curve.png` are
made of `results.csv` alone, so they need no run directory. Two runs at a time, one thread each.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from msgrpo_cli.analysis.compare import sign_flip_p
from msgrpo_cli.analysis.report.seeds import interquartile_mean, seed_interval
from msgrpo_cli.common.statistics import Interval

AT_A_TIME = 2
GOAL = 0.8  # normalised score: how soon is it reached?
COLUMNS = (
    "game", "arm", "seed", "updates", "final", "final_low", "final_high", "greedy", "area", "updates_to_goal",
    "seconds_to_goal", "training_seconds", "wall_seconds", "decisions", "tokens_trained", "collapsed", "base", "random",
    "best_known", "distinct_starts", "curve", "overrides", "commit",
)  # fmt: skip
"""`final` is the normalised score of the best checkpoint on the test part, `area` the mean height of the normalised
curve on validation, `curve` its points as [update, score]; both 0 for random and 1 for best known play."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8F5F00", "#000000")
DASHES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1)), (0, (2, 2)))


@dataclass(frozen=True)
class Experiment:
    """`experiment.yaml`."""

    folder: Path
    common: Sequence[str]
    """Overrides of every run."""
    games: Mapping[str, Sequence[str]]
    arms: Mapping[str, Sequence[str]]
    """The first is what the others are compared with."""
    seeds: int

    @classmethod
    def read(cls, folder: Path) -> Experiment:
        return cls(folder, **yaml.safe_load((folder / "experiment.yaml").read_text(encoding="utf-8")))

    @property
    def results(self) -> Path:
        return self.folder / "results.csv"

    def overrides(self, game: str, arm: str, seed: int) -> list[str]:
        return [*self.common, *self.games[game], *self.arms[arm], f"seed={seed}"]

    def jobs(self) -> list[tuple[str, str, int]]:
        """Whole sets of arms first, so that what is there is paired whenever the work is cut short."""
        return [(game, arm, seed) for game in self.games for seed in range(self.seeds) for arm in self.arms]


def lines_of(experiment: Experiment) -> list[dict[str, str]]:
    if not experiment.results.exists():
        return []
    with experiment.results.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run_all(
    experiment: Experiment, games: Sequence[str], columns: Sequence[str], figures: Callable[[Path], Mapping[str, Any]]
) -> int:
    """Run what is missing of these games, and keep of each run what `figures` finds; returns how many failed."""
    there = {(line["game"], line["arm"], int(line["seed"])) for line in lines_of(experiment)}
    missing = [job for job in experiment.jobs() if job not in there and job[0] in games]
    print(f"{experiment.folder.name}: {len(there)} lines are there, {len(missing)} runs are missing", file=sys.stderr)
    writing = threading.Lock()

    def work(job: tuple[str, str, int]) -> bool:
        game, arm, seed = job
        place = f"runs/{game}-{arm}-{seed}"
        run = experiment.folder / place
        record = run / "run.json"
        done = record.exists() and json.loads(record.read_text())["status"] == "done"
        begun = ["--resume", place] if record.exists() else []
        where = [] if begun else [*experiment.overrides(*job), f"hydra.run.dir={place}"]
        if not done:
            ended = subprocess.run(
                [sys.executable, "-m", "msgrpo_cli", "train", *where, *begun],
                env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=experiment.folder,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if ended.returncode:
                print(f"{run.name} failed: {ended.stderr.splitlines()[-1:]}", file=sys.stderr)
                return False
        with writing:
            first = not experiment.results.exists()
            with experiment.results.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, columns)
                if first:
                    writer.writeheader()
                writer.writerow({"game": game, "arm": arm, "seed": seed, **figures(run)})
        return True

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return sum(not good for good in pool.map(work, missing))


def figures(run: Path) -> dict[str, Any]:
    """What a finished run says, in the columns of results.csv."""
    record, best = (json.loads((run / name).read_text()) for name in ("run.json", "eval/best.json"))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["kind"] == "train"]
    scored = [row for row in rows if row["kind"] == "eval" and row["split"] == "validation"]
    curve = [(row["update"], row["normalized_score"]) for row in scored]
    reached = next((update for update, score in curve if score >= GOAL), None)
    seconds = np.cumsum([row["perf/seconds_total"] for row in trained])
    span = best["optimal_score"] - best["random_score"]
    low, high = ((end - best["random_score"]) / span for end in best["mean_total_reward_ci95"])
    return {
        "updates": trained[-1]["update"],
        "final": best["normalized_score"],
        "final_low": low,
        "final_high": high,
        "greedy": (best["greedy_mean_total_reward"] - best["random_score"]) / span,
        "area": float(np.trapezoid([score for _, score in curve], [update for update, _ in curve]) / curve[-1][0]),
        "updates_to_goal": reached,
        "seconds_to_goal": None if reached is None else float(seconds[reached - 1]) if reached else 0.0,
        "training_seconds": float(seconds[-1]),
        "wall_seconds": record["process_wall_seconds"],
        "decisions": sum(row["steps_played"] for row in trained),
        "tokens_trained": sum(row["tokens_prompt"] + row["tokens_completion"] for row in trained),
        "collapsed": (run / "log.txt").read_text(encoding="utf-8").count("the run has collapsed"),
        "base": curve[0][1],
        "random": best["random_score"],
        "best_known": best["optimal_score"],
        "distinct_starts": best["distinct_initial_states"],
        "curve": json.dumps([[update, round(score, 4)] for update, score in curve]),
        "overrides": " ".join(word for word in record["overrides"] if not word.startswith("hydra.run.dir=")),
        "commit": record["commit"],
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for how many comparisons were made, in the order given; shape (N,) (Holm 1979)."""
    order, least = np.argsort(p_values), 0.0
    adjusted = [0.0] * len(p_values)
    for rank, place in enumerate(order):
        least = max(least, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted[place] = least
    return adjusted


def summary(experiment: Experiment) -> dict[str, Any]:
    """For every game and measure: each arm over its seeds, and its paired difference from the first arm."""
    lines = lines_of(experiment)
    found: dict[str, Any] = {}
    for game, measure in itertools.product(experiment.games, ("final", "area")):
        scores = {
            arm: {int(x["seed"]): float(x[measure]) for x in lines if (x["game"], x["arm"]) == (game, arm)}
            for arm in experiment.arms
        }
        found[f"{game} {measure}"] = beside_the_first(scores)
    return found


def beside_the_first(scores: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    """Scores by arm and seed: each arm over its seeds, and its paired difference from the first arm that has any."""
    first, *others = [arm for arm in scores if scores[arm]] or [""]
    tests = {arm: difference(scores[arm], scores[first]) for arm in others}
    adjusted = holm([test["p"] for test in tests.values()])
    for test, p in zip(tests.values(), adjusted, strict=True):
        test["p_holm"] = p
        certain = test["interval"] is not None and not test["interval"][0] <= 0 <= test["interval"][1]
        apart = certain and p < 0.05
        test["verdict"] = ("higher" if test["mean"] > 0 else "lower") if apart else "no difference found"
    return {
        arm: {**over_seeds(list(of_seeds.values())), "difference": tests.get(arm)}
        for arm, of_seeds in scores.items()
        if of_seeds
    }


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    return {
        "seeds": len(values),
        "mean": float(np.mean(values)),
        "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "interval": seed_interval(values),
        "interquartile_mean": interquartile_mean(values),
        "best": max(values),
        "worst": min(values),
    }


def difference(arm: Mapping[int, float], first: Mapping[int, float]) -> dict[str, Any]:
    """Of the same seeds: mean, bootstrap interval, exact sign-flip p."""
    apart = [arm[seed] - first[seed] for seed in sorted(arm.keys() & first.keys())]
    return {"mean": float(np.mean(apart)), "interval": seed_interval(apart), "p": sign_flip_p(apart)}


def table(experiment: Experiment, found: Mapping[str, Any]) -> str:
    """Markdown: a table for every game."""
    lines, text = lines_of(experiment), []
    for game in experiment.games:
        if not found[f"{game} final"]:
            text += [f"### {game}", "", "not run", ""]
            continue
        text += [
            f"### {game}", "",
            "| arm | seeds | final score | best run | area | updates to 0.8 | seconds to 0.8 | training s "
            "| final against the first | area against the first |", "|" + "---|" * 10,
        ]  # fmt: skip
        for arm, final in found[f"{game} final"].items():
            area = found[f"{game} area"][arm]
            mine = [line for line in lines if (line["game"], line["arm"]) == (game, arm)]
            cells = [
                arm, str(final["seeds"]), spread(final), f"{final['best']:.3f}", spread(area),
                _reached(mine, "updates_to_goal"), _reached(mine, "seconds_to_goal"),
                f"{np.median([float(line['training_seconds']) for line in mine]):.0f}",
                compared(final["difference"]), compared(area["difference"]),
            ]  # fmt: skip
            text.append(f"| {' | '.join(cells)} |")
        text.append("")
    return "\n".join(text)


def spread(of_arm: Mapping[str, Any]) -> str:
    interval: Interval | None = of_arm["interval"]
    ends = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    deviation = f" ± {of_arm['deviation']:.3f}" if of_arm["deviation"] is not None else ""
    return f"{of_arm['mean']:.3f}{deviation}{ends}"


def _reached(lines: Sequence[Mapping[str, str]], column: str) -> str:
    """The median over the seeds that reached it, and how many did not."""
    reached = [float(line[column]) for line in lines if line[column]]
    if not reached:
        return "never"
    never = len(lines) - len(reached)
    return f"{np.median(reached):.0f}" + (f" ({never} of {len(lines)} never)" if never else "")


def compared(test: Mapping[str, Any] | None) -> str:
    if test is None:
        return "-"
    interval = test["interval"]
    ends = f" [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else ""
    return f"{test['mean']:+.3f}{ends}, p {test['p_holm']:.2g}: {test['verdict']}"


def draw(experiment: Experiment) -> None:
    """Normalised score on validation by update, a panel for every game."""
    draw_curves(experiment, "normalised score, validation\n(0 random, 1 best known play)", GOAL)


def draw_curves(experiment: Experiment, measure: str, marked: float) -> None:
    """curve.png: the column `curve` by update, mean and 95 % bootstrap band over seeds, a panel for every game."""
    lines = lines_of(experiment)
    games = [game for game in experiment.games if any(line["game"] == game for line in lines)]
    figure = Figure(figsize=(1.5 + 4.6 * len(games), 4), dpi=120, layout="constrained")
    panels = figure.subplots(1, max(1, len(games)), squeeze=False)[0]
    for panel, game in zip(panels, games, strict=False):
        for arm, colour, dashes in zip(experiment.arms, COLOURS, DASHES, strict=False):
            curves = [json.loads(line["curve"]) for line in lines if (line["game"], line["arm"]) == (game, arm)]
            if not curves:
                continue
            updates = [update for update, _ in curves[0]]
            scores = [[score for _, score in curve] for curve in curves]
            bands = [seed_interval(of_update) or (of_update[0],) * 2 for of_update in zip(*scores, strict=True)]
            panel.plot(updates, np.mean(scores, axis=0), color=colour, linestyle=dashes, linewidth=1.8, label=arm)
            panel.fill_between(updates, *zip(*bands, strict=True), color=colour, alpha=0.13, linewidth=0)
        panel.axhline(marked, color="#595959", linewidth=0.7, linestyle=":")
        panel.set(xlabel="update", title=game)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        panel.grid(alpha=0.25)
    panels[0].set_ylabel(measure)
    if games:
        lines_by_arm = {line.get_label(): line for panel in panels for line in panel.get_lines()}
        shown = [arm for arm in experiment.arms if arm in lines_by_arm]
        figure.legend([lines_by_arm[arm] for arm in shown], shown, fontsize=8, loc="outside right upper")
    figure.savefig(experiment.folder / "curve.png")


def main() -> int:
    experiment = Experiment.read(Path(sys.argv[1]))
    failed = run_all(experiment, sys.argv[2:] or list(experiment.games), COLUMNS, figures)
    found = summary(experiment)
    (experiment.folder / "summary.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (experiment.folder / "table.md").write_text(table(experiment, found), encoding="utf-8")
    draw(experiment)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
