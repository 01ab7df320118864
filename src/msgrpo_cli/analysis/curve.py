"""The learning curve of a run: total reward and success against updates, between random and optimal play.

Knows the rows of metrics.jsonl and matplotlib. Knows nothing about games, models or how the rows came about.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from msgrpo_cli.runs.metrics import Row, evaluation_rows, is_known, points, read_rows

from .labels import name_levels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _VERMILION, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#767676"  # Okabe and Ito; differ in grey too


def draw_curve(
    metrics_path: Path,
    out: Path,
    random_score: float | None,
    optimal_score: float | None,
    random_success: float | None = None,
    optimal_success: float | None = None,
    title: str = "",
    best: str = "optimal",
) -> None:
    """Draw metrics.jsonl into the PNG `out`, which is replaced in one stroke. Without rows nothing is written.

    Scores are mean total rewards, successes are rates; None leaves the line out. Evaluations of the test part are
    left out where others exist; of several scenarios the first is drawn. A last line that breaks off is ignored.
    Raises FileNotFoundError without metrics, ValueError for any other line that is no JSON object.
    """
    rows = read_rows(metrics_path)
    if not rows:
        return
    picture = _picture(rows, (random_score, optimal_score), (random_success, optimal_success), title, best)
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    unfinished.write_bytes(picture)
    os.replace(unfinished, out)


def _picture(
    rows: Sequence[Row],
    scores: tuple[float | None, float | None],
    successes: tuple[float | None, float | None],
    title: str,
    best: str,
) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 6.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    reward, success = figure.subplots(2, 1, sharex=True)
    train = [row for row in rows if row.get("kind") == "train"]
    evaluations = evaluation_rows(rows)
    split = next((str(row["split"]) for row in evaluations if row.get("split") not in (None, "any")), "evaluation")

    _draw_train(reward, train, "total_reward")
    _draw_greedy(reward, evaluations, "greedy_mean_total_reward", split)
    _draw_sampled(reward, evaluations, "mean_total_reward", "mean_total_reward_ci95", split)
    reward.set_ylabel("total reward per episode")

    _draw_train(success, train, "success_rate")
    _draw_greedy(success, evaluations, "greedy_success_rate", split)
    _draw_sampled(success, evaluations, "success_rate", "success_ci95", split)
    success.set_ylabel("success rate")
    success.set_ylim(-0.04, 1.08)
    success.set_xlabel("update")
    if not any(is_known(row, key) for row in rows for key in ("success_rate", "greedy_success_rate")):
        success.text(0.5, 0.5, "no success known", transform=success.transAxes, ha="center", color=_GREY)

    named = {}
    for panel, levels in ((reward, scores), (success, successes)):
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        named[panel] = _draw_references(panel, levels, best)
    handles, labels = reward.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    name_levels(named)
    picture = BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _draw_train(panel: Axes, rows: Sequence[Row], key: str) -> None:
    updates, values = points(rows, key)
    if updates:
        marker = "." if len(updates) == 1 else None
        panel.plot(updates, values, color=_GREY, alpha=0.55, linewidth=1, marker=marker, label="train, sampled")


def _draw_greedy(panel: Axes, rows: Sequence[Row], key: str, split: str) -> None:
    updates, values = points(rows, key)
    if updates:
        panel.plot(
            updates,
            values,
            color=_VERMILION,
            linestyle=(0, (1, 1.2)),
            marker="^",
            markerfacecolor="white",
            markersize=8,
            label=f"{split}, greedy",
        )


def _draw_sampled(panel: Axes, rows: Sequence[Row], key: str, interval_key: str, split: str) -> None:
    updates, values = points(rows, key)
    if not updates:
        return
    panel.plot(updates, values, color=_BLUE, marker="o", markersize=5, label=f"{split}, sampled, 95 %")
    measured = [row for row in rows if is_known(row, key) and row.get(interval_key) is not None]
    if measured:
        panel.vlines(
            [row["update"] for row in measured],
            [row[interval_key][0] for row in measured],
            [row[interval_key][1] for row in measured],
            color=_BLUE,
            linewidth=1.4,
        )


def _draw_references(panel: Axes, levels: tuple[float | None, float | None], best: str) -> list[tuple[str, float, str]]:
    """Dashed lines for random and the best known play; returns what `name_levels` names."""
    named = [
        (f"{name} {level:.3g}", level, color)
        for name, level, color in (("random", levels[0], "black"), (best, levels[1], _GREEN))
        if level is not None
    ]
    for _, level, color in named:
        panel.axhline(level, color=color, linestyle="--", linewidth=1.2)
    return named
