"""The figures of a report as SVG: learning curves, final scores, probability of improvement.

Knows what a report says and matplotlib. Knows nothing about pages or run directories. A group is told by its letter,
by line style and marker, and by colour last: legible in grey.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from msgrpo_cli.common.text import part_in_words

from ..labels import apart, heights, name_levels
from .records import MEASURES, Comparison, GroupReport, Measure, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

_IN_ONE = 6  # groups in one panel; more lines than that nobody tells apart
_MOST_PAIRS = 28  # in the figure; the table has them all
_LETTER = 8.5  # points between letters, and between a letter and a dashed line
_LABEL = 70  # characters of a label in a legend
_GREY = "#595959"
_COLOURS = ("#0072B2", "#D55E00", "#007A5A", "#A84A86", "#8F5F00", "#000000")  # after Okabe and Ito, dark enough
_DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (2, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P")
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "msgrpo",
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
}


@dataclass(frozen=True)
class Picture:
    """One figure."""

    id: str
    """Its kind (curves, scores or improvement) and a number."""
    title: str
    caption: str
    svg: str


def figures_of(report: Report) -> list[Picture]:
    """Every figure that the report has data for."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        return [*_learning(report), *_final_scores(report), *_improvement(report)]


def _learning(report: Report) -> list[Picture]:
    drawn = [group for group in report.groups if group.curve.seeds]
    pictures: list[Picture] = []
    kinds = dict.fromkeys((group.game, group.curve.source) for group in drawn)
    for game, source in kinds:
        alike = [group for group in drawn if (group.game, group.curve.source) == (game, source)]
        for first in range(0, len(alike), _IN_ONE):
            some = alike[first : first + _IN_ONE]
            part = f", groups {', '.join(group.letter for group in some)}" if len(alike) > _IN_ONE else ""
            what = "training episodes" if source == "training" else part_in_words(source)
            pictures.append(
                Picture(
                    (name := f"curves-{len(pictures)}"),
                    f"Learning curves: {game}, {what}{part}",
                    "Mean over the finished seeds, with a band of its 95 % bootstrap interval over seeds (none with "
                    "one seed); thin lines are single runs, unfinished ones too. Dashed horizontals: random and best "
                    "known play on the same starts.",
                    _svg(_curves(some), name),
                )
            )
    return pictures


def _curves(groups: Sequence[GroupReport]) -> Figure:
    from matplotlib.ticker import MaxNLocator

    figure, panel = _panel(3.6)
    letters: list[Annotation] = []
    for number, group in enumerate(groups):
        color, dashes, marker = _COLOURS[number], _DASHES[number], _MARKERS[number]
        curve = group.curve
        for seed in curve.seeds:
            panel.plot(*zip(*seed.line, strict=True), color=color, linewidth=0.6, alpha=0.45)
        label = shorten(f"{group.letter}: {group.label}", _LABEL, placeholder=" ...")
        if not curve.points:
            panel.plot([], [], color=color, linewidth=0.6, label=f"{label} (unfinished)")
            continue
        updates = [point.update for point in curve.points]
        means = [point.mean for point in curve.points]
        many = len(updates) > 30
        panel.plot(
            updates,
            means,
            color=color,
            linestyle=dashes,
            marker=None if many else marker,
            markersize=4.5,
            linewidth=1.8,
            label=label,
        )
        panel.fill_between(
            updates,
            [point.ci95[0] if point.ci95 else point.mean for point in curve.points],
            [point.ci95[1] if point.ci95 else point.mean for point in curve.points],
            color=color,
            alpha=0.15,
            linewidth=0,
        )
        letters.append(
            panel.annotate(
                group.letter,
                (updates[-1], means[-1]),
                (5, 0),
                textcoords="offset points",
                va="center",
                color=color,
                fontweight="bold",
            )
        )
    best = "optimal" if all(group.optimal_is_exact for group in groups) else "best known"
    levels = [(group.curve.random_score, group.curve.optimal_score) for group in groups]
    named = [
        (f"{name} {level[0]:.3g}", level[0], "black")
        for name, level in zip(("random", best), zip(*levels, strict=True), strict=True)
        if level[0] is not None and len(set(level)) == 1
    ]
    for _, level, _ in named:
        panel.axhline(level, color="black", linestyle="--", linewidth=0.9)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    panel.set_xlabel("update")
    panel.set_ylabel("total reward per episode")
    figure.legend(loc="outside lower left", ncols=1, frameon=False, fontsize=8)
    name_levels({panel: named})
    wanted = heights(panel, [note.xy[1] for note in letters])
    lines = heights(panel, [level for _, level, _ in named])
    for note, place, own in zip(letters, apart(wanted, _LETTER, lines), wanted, strict=True):
        note.set_position((5, place - own))
    return figure


def _final_scores(report: Report) -> list[Picture]:
    scored = [group for group in report.groups if group.seeds]
    parts = dict.fromkeys((group.game, group.split) for group in scored)
    pictures = [
        _score_picture([group for group in scored if (group.game, group.split) == part], "total_reward", part, number)
        for number, part in enumerate(parts)
    ]
    normalized = [group for group in scored if group.scores["normalized_score"]]
    if len(parts) > 1 and len(normalized) > 1:
        pictures.append(_score_picture(normalized, "normalized_score", None, len(parts)))
    return pictures


def _score_picture(
    groups: Sequence[GroupReport], measure: Measure, part: tuple[str, str | None] | None, number: int
) -> Picture:
    where = f"{part[0]}, {part_in_words(part[1])}" if part else "all games"
    caption = (
        "Filled: mean over seeds and its 95 % bootstrap interval (none with one seed); bar: interquartile mean; open "
        "circles: single seeds. Dashed: "
        + ("random and best known play." if part else "0 is random play, 1 best known.")
    )
    return Picture(
        f"scores-{number}",
        f"Final {MEASURES[measure]}: {where}",
        caption,
        _svg(_scores(groups, measure), f"scores-{number}"),
    )


def _scores(groups: Sequence[GroupReport], measure: Measure) -> Figure:
    figure, panel = _panel(0.9 + 0.34 * len(groups))
    for row, group in enumerate(groups):
        score = group.scores[measure]
        if score is None:
            continue
        panel.plot(score.values, [row + 0.22] * len(score.values), "o", mfc="none", mec=_GREY, markersize=4)
        if score.ci95:
            panel.plot(score.ci95, [row, row], color=_COLOURS[0], linewidth=2.2, solid_capstyle="butt")
        panel.plot([score.mean], [row], "o", color=_COLOURS[0], markersize=7)
        panel.plot([score.interquartile_mean], [row], "|", color="black", markersize=15, markeredgewidth=1.4)
    if measure == "normalized_score":
        levels: dict[str, float | None] = {"random": 0.0, "best known": 1.0}
    else:
        best = "optimal" if all(group.optimal_is_exact for group in groups) else "best known"
        levels = {"random": _same([g.random_score for g in groups]), best: _same([g.optimal_score for g in groups])}
    for name, level in levels.items():
        if level is not None:
            panel.axvline(level, color="black", linestyle="--", linewidth=0.9)
            panel.annotate(
                f"{name} {level:.3g}",
                (level, 1),
                (0, 2),
                xycoords=panel.get_xaxis_transform(),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
    _rows(panel, [group.letter for group in groups])
    panel.set_xlabel(MEASURES[measure])
    return figure


def _improvement(report: Report) -> list[Picture]:
    known = [pair for pair in report.comparisons if pair.probability_of_improvement is not None]
    if not known:
        return []
    left = f" The first {_MOST_PAIRS} of {len(known)} pairs; the table has all." if len(known) > _MOST_PAIRS else ""
    return [
        Picture(
            "improvement-0",
            "Probability of improvement",
            "That a seed of the first group scores above one of the second, ties counted half, with its 95 % bootstrap "
            f"interval over seeds. Dashed: no difference.{left}",
            _svg(_probabilities(known[:_MOST_PAIRS]), "improvement-0"),
        )
    ]


def _probabilities(pairs: Sequence[Comparison]) -> Figure:
    figure, panel = _panel(0.9 + 0.28 * len(pairs))
    for row, pair in enumerate(pairs):
        if pair.probability_ci95:
            panel.plot(pair.probability_ci95, [row, row], color=_COLOURS[0], linewidth=2.2, solid_capstyle="butt")
        panel.plot([pair.probability_of_improvement or 0.0], [row], "o", color=_COLOURS[0], markersize=6)
    panel.axvline(0.5, color="black", linestyle="--", linewidth=0.9)
    _rows(panel, [f"{pair.first} > {pair.second}" for pair in pairs])
    panel.set_xlim(-0.03, 1.03)
    panel.set_xlabel("probability")
    return figure


def _rows(panel: Axes, names: Sequence[str]) -> None:
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.grid(axis="y", visible=False)


def _same(values: Sequence[float | None]) -> float | None:
    return values[0] if len(set(values)) == 1 else None


def _panel(height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, max(height, 1.5)), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure, name: str) -> str:
    """The figure as an element for a page: without a prologue, its ids its own."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-labelledby="{name}-title {name}-caption" ', 1)
