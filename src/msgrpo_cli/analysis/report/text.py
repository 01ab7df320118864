"""A report on a terminal, and how its numbers are written.

Knows what a report says and rich. Knows nothing about run directories, statistics or HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from msgrpo_cli.common.numbers import NONE, count, estimate, interval, number

from .findings import ranking
from .groups import brief
from .records import MEASURES, GroupReport, Measure, Report, Score

_LONGEST = 60  # characters of a value; the page has more, and --json all
_MOST_PAIRS = 12  # of groups on a terminal; the page has them all


def show(report: Report, console: Console) -> None:
    """Print the report."""
    console.print(Text(report.title, style="bold"))
    _show_groups(report, console)
    if any(group.seeds for group in report.groups):
        _show_scores(report.groups, console)
    _show_lines("Ranking", ranking(report), console)
    if report.comparisons:
        _show_pairs(report, console)
    if report.differences:
        _show_differences(report, console)
    if report.groups:
        _show_costs(report.groups, console)
        _show_episodes(report.groups, console)
    if report.unfinished:
        _show_unfinished(report, console)
    _show_lines("Notes", report.notes, console)


def _table(title: str, *columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(title), title_justify="left", title_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def _show_lines(title: str, lines: Sequence[str], console: Console) -> None:
    if lines:
        console.print(Text(title, style="bold"))
        table = Table.grid(padding=(0, 1))
        for line in lines:
            table.add_row("-", Text(line))
        console.print(table)
        console.print()


def _show_groups(report: Report, console: Console) -> None:
    table = _table("Groups: configs that are equal in everything but the seed", "", "what it is", "game", "seeds")
    for group in report.groups:
        seeds = ", ".join(map(str, group.seeds)) or "none finished"
        table.add_row(Text(group.letter, style="bold"), Text(group.label), Text(group.game), seeds)
    console.print(table)


def _show_scores(groups: Sequence[GroupReport], console: Console) -> None:
    """Final scores, one block of lines for each group, so that a narrow terminal has room."""
    columns = ("", "of", "mean", "IQM", "random", "best known")
    title = "Final score over seeds: mean, 95 % interval, interquartile mean"
    table = _table(title, *columns, right=columns[2:])
    for group in groups:
        for row, (measure, words) in enumerate(_lines(group)):
            score = group.scores[measure]
            raw = measure == "total_reward"
            table.add_row(
                Text(group.letter if row == 0 else "", style="bold"),
                words,
                estimate(score.mean, score.ci95) if score else NONE,
                number(score.interquartile_mean if score else None),
                number(group.random_score) if raw else "",
                number(group.optimal_score) + (" exact" if group.optimal_is_exact else "") if raw else "",
            )
    console.print(table)


def _lines(group: GroupReport) -> list[tuple[Measure, str]]:
    """The measures of a group that say something: success that equals the total reward does not."""
    return [
        (measure, words)
        for measure, words in MEASURES.items()
        if (score := group.scores[measure]) is not None and (measure == "total_reward" or not _same(score, group))
    ]


def _same(score: Score, group: GroupReport) -> bool:
    total = group.scores["total_reward"]
    return total is not None and score.values == total.values


def _show_pairs(report: Report, console: Console) -> None:
    columns = ("", "by", "P", "95 % interval", "verdict")
    table = _table("P: that a seed of the first scores above one of the second", *columns, right=columns[2:4])
    for pair in report.comparisons[:_MOST_PAIRS]:
        table.add_row(
            f"{pair.first} > {pair.second}",
            MEASURES[pair.measure] if pair.measure else NONE,
            number(pair.probability_of_improvement),
            interval(pair.probability_ci95),
            f"{pair.first} is {pair.verdict} {pair.second}" if pair.verdict in ("above", "below") else pair.verdict,
        )
    console.print(table)
    if len(report.comparisons) > _MOST_PAIRS:
        console.print(f"{len(report.comparisons) - _MOST_PAIRS} more pairs: on the page\n")


def _show_differences(report: Report, console: Console) -> None:
    table = _table("What differs between the configs", "key", "values")
    letters = [group.letter for group in report.groups]
    for key, values in report.differences.items():
        having: dict[str, list[str]] = {}
        for letter, value in zip(letters, values, strict=True):
            having.setdefault(value, []).append(letter)
        told = "; ".join(f"{', '.join(found)}: {brief(value, _LONGEST)}" for value, found in having.items())
        table.add_row(Text(key), Text(told))
    console.print(table)


def _show_costs(groups: Sequence[GroupReport], console: Console) -> None:
    columns = ("", "runs", "training", "evaluation", "decisions", "tokens")
    table = _table(
        "Cost of the finished runs, in seconds, decisions played, tokens trained on", *columns, right=columns[1:]
    )
    for group in groups:
        cost = group.cost
        table.add_row(
            Text(group.letter, style="bold"),
            str(cost.finished_runs),
            count(cost.seconds_training),
            count(cost.seconds_evaluating),
            count(cost.decisions),
            count(cost.tokens),
        )
    console.print(table)
    others = sum(group.cost.other_seconds for group in groups)
    if others:
        console.print(f"and {count(others)} s in runs that do not count\n")


def _show_episodes(groups: Sequence[GroupReport], console: Console) -> None:
    if not any(group.episodes for group in groups):
        return
    table = _table("Episodes", "", "", "reward", "ended by", "stored as", right=["reward"])
    for group in groups:
        for row, episode in enumerate(group.episodes):
            table.add_row(
                Text(group.letter if row == 0 else "", style="bold"),
                episode.kind,
                number(episode.total_reward),
                Text(episode.ended_by),
                Text(f"{PurePath(episode.run).name}/{episode.file}:{episode.line}"),
            )
    console.print(table)


def _show_unfinished(report: Report, console: Console) -> None:
    table = _table("Jobs that do not count", "run", "status", "why")
    for run in report.unfinished:
        what = " ".join(run.overrides)
        reason = "; ".join(text for text in (run.reason, what) if text)
        table.add_row(Text(PurePath(run.run).name), Text(run.status), Text(reason))
    console.print(table)
