"""What a reader of a report must know besides its numbers.

Knows groups and their records. Knows nothing about how notes are shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from msgrpo_cli.report_groups import Group
from msgrpo_cli.seed_statistics import coverage

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
