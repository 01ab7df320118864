"""Which groups may be ranked, and in what words.

Knows scores over seeds and their intervals. Knows nothing about run directories or how a ranking is shown.
"""

from __future__ import annotations

from typing import Literal

from msgrpo_cli.report_records import MEASURES, Comparison, GroupReport, Measure, Report, Score
from msgrpo_cli.seed_statistics import overlap, probability_of_improvement, smallest_p

_USUAL = 0.05  # level of a test


def compare(a: GroupReport, b: GroupReport) -> Comparison:
    """Two groups beside each other; what they cannot be compared by is said."""
    measure, why = _common_measure(a, b)
    one, other = (a.scores[measure], b.scores[measure]) if measure else (None, None)
    if measure is None or one is None or other is None:
        return Comparison(a.letter, b.letter, None, None, None, "not compared", why)
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
    what = "different games" if a.game != b.game else f"different parts, {a.split} and {b.split}"
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
