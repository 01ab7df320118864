"""Which groups may be ranked, and what a reader must know besides the numbers.

Knows groups, scores over seeds and their intervals. Knows nothing about run directories or how findings are shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from msgrpo_cli.common.text import part_in_words

from .groups import Group
from .records import MEASURES, Comparison, GroupReport, Measure, Report, Score
from .seeds import coverage, overlap, probability_of_improvement, smallest_p

_USUAL = 0.05  # level of a test


def compare(a: GroupReport, b: GroupReport) -> Comparison:
    """Two groups beside each other; what they cannot be compared by is said."""
    measure, why = _common_measure(a, b)
    one, other = (a.scores[measure], b.scores[measure]) if measure else (None, None)
    if measure is None or one is None or other is None:
        return Comparison(a.letter, b.letter, None, None, None, "not compared", why)
    probability, interval = None, None
    if min(len(one.values), len(other.values)) > 1:  # with one seed on a side it would say 0 or 1 of a single race
        probability, interval = probability_of_improvement(one.values, other.values)
    verdict, reason = _verdict(a, b, one, other)
    reasons = "; ".join(text for text in (reason, why) if text)
    return Comparison(a.letter, b.letter, measure, probability, interval, verdict, reasons)


def _common_measure(a: GroupReport, b: GroupReport) -> tuple[Measure | None, str]:
    """What two groups may be compared by, and what there is to say about it.

    Total rewards of different games, or on other parts of one, are different things.
    """
    if not (a.seeds and b.seeds):
        return None, f"{a.letter if not a.seeds else b.letter} has no finished run"
    if (a.game, a.split) == (b.game, b.split):
        return "total_reward", ""
    parts = f"different parts, {part_in_words(a.split)} and {part_in_words(b.split)}"
    what = "different games" if a.game != b.game else parts
    for report in (a, b):
        if report.scores["normalized_score"] is None:
            reason = report.normalized_reason or "unknown"
            return None, f"{what}, and {report.letter} has no normalised score: {reason}"
    exact = a.optimal_is_exact and b.optimal_is_exact
    return "normalized_score", what if exact else f"{what}; 1 is the best known play, which need not be optimal"


def _verdict(
    a: GroupReport, b: GroupReport, one: Score, other: Score
) -> tuple[Literal["above", "below", "not ranked"], str]:
    for report, score in ((a, one), (b, other)):
        if score.ci95 is None:
            lacking = "has one seed" if len(score.values) == 1 else "scores alike with every seed"
            return "not ranked", f"{report.letter} {lacking}, so no interval over seeds exists"
    assert one.ci95 is not None
    assert other.ci95 is not None
    if overlap(one.ci95, other.ci95):
        return "not ranked", "the intervals overlap"
    chance = smallest_p(len(one.values), len(other.values))
    few = (
        f", but with {len(one.values)} and {len(other.values)} seeds even complete separation has p = {chance:.2f}"
        if chance > _USUAL
        else ""
    )
    return ("above" if one.mean > other.mean else "below"), f"the intervals do not overlap{few}"


def ranking(report: Report) -> list[str]:
    """What may be said about the order of the groups, in sentences."""
    if len(report.groups) < 2:
        return ["There is one group, so there is nothing to rank."]
    above: dict[tuple[str, str, str], list[str]] = {}
    undecided: dict[str, list[str]] = {}
    apart: dict[str, list[str]] = {}
    for pair in report.comparisons:
        both = f"{pair.first} and {pair.second}"
        if pair.verdict == "not compared":
            apart.setdefault(pair.reason, []).append(both)
        elif pair.verdict == "not ranked":
            undecided.setdefault(pair.reason, []).append(both)
        else:
            better, worse = (pair.first, pair.second) if pair.verdict == "above" else (pair.second, pair.first)
            words = MEASURES[pair.measure or "total_reward"]
            above.setdefault((better, words, pair.reason), []).append(worse)
    return [
        *(["No ranking."] if not above else []),
        *(f"{better} is above {', '.join(worse)} in {by}: {why}." for (better, by, why), worse in above.items()),
        *(f"Not ranked: {', '.join(pairs)} ({reason})." for reason, pairs in undecided.items()),
        *(f"Not compared: {', '.join(pairs)} ({reason})." for reason, pairs in apart.items()),
    ]


_COMMIT = re.compile(r"\b([0-9a-f]{10})[0-9a-f]{30}\b")
_OUTSIDE = {
    "commit": "commit of msgrpo",
    "device": "device",
    "precision": "precision",
    "threads": "number of threads",
}
"""Of run.json: what may change a score and stands in no config."""


def notes_on(groups: Sequence[Group]) -> list[str]:
    """One sentence each."""
    return [*_damaged(groups), *_seeds(groups), *_again(groups), *_outside(groups), *_pairs(groups)]


def _damaged(groups: Sequence[Group]) -> list[str]:
    runs = [run for group in groups for run in group.runs]
    return [
        f"The metrics.jsonl of {run.name} is damaged or cut off: its curve and the cost of its group are incomplete."
        for run in runs
        if not run.rows_are_whole
    ] + [
        f"The eval/best.episodes.jsonl of {run.name} is damaged or cut off: there may be better and worse episodes."
        for run in runs
        if not run.episodes_are_whole
    ]


def _seeds(groups: Sequence[Group]) -> list[str]:
    notes = []
    lone = [group.letter for group in groups if len(group.runs) == 1]
    if lone:
        notes.append(f"{_listed(lone)}: one seed, so no interval over seeds exists.")
    several = [len(group.runs) for group in groups if len(group.runs) > 1]
    if several:
        fewest = min(several)
        notes.append(
            f"Intervals over {fewest} seeds are too narrow: such a bootstrap holds the true mean in about "
            f"{100 * coverage(fewest):.0f} % of cases (simulated, normal scores), not in 95 %."
        )
        if fewest < 4:
            notes.append("With fewer than four seeds the interquartile mean is the mean.")
    return notes


def _again(groups: Sequence[Group]) -> list[str]:
    again = [run.name for group in groups for run in group.others if run.counts]
    return [
        f"Seeds that were run again count once, with the run that started last; left out: {_listed(again)}."
    ] * bool(again)


def _outside(groups: Sequence[Group]) -> list[str]:
    runs = [run for group in groups for run in group.runs]
    notes = [
        f"The runs differ in {words}: {_listed(found)}."
        for key, words in _OUTSIDE.items()
        if len(found := _kinds([run.record.get(key) for run in runs])) > 1
    ]
    versions = [run.record.get("versions") or {} for run in runs]
    for package in dict.fromkeys(name for found in versions for name in found):
        if len(kinds := _kinds([found.get(package) for found in versions])) > 1:
            notes.append(f"The runs differ in the version of {package}: {_listed(kinds)}.")
    return notes


def _pairs(groups: Sequence[Group]) -> list[str]:
    counted = sum(1 for group in groups if group.runs)
    pairs = counted * (counted - 1) // 2
    return [f"{pairs} pairs of groups are looked at, and nothing corrects for that."] * (pairs > 1)


def _kinds(values: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(_COMMIT.sub(r"\1", str(value)) for value in values))


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words)
