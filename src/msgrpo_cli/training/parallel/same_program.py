"""All ranks are one program: of one commit, with the same versions of what it computes with.

Knows what a run records of its surroundings. Knows nothing about how ranks were started, or what they do.
"""

from __future__ import annotations

from msgrpo_cli.errors import UsageError
from msgrpo_cli.runs.directory import surroundings

from .ranks import Ranks


def refuse_other_programs(ranks: Ranks) -> None:
    """Raises UsageError on every rank where one of them is not what the first is, before anything is written."""
    first, *others = ranks.gather(surroundings)
    for rank, other in enumerate(others, start=1):
        different = [f"{name} {other[name]}, not {value}" for name, value in first.items() if other[name] != value]
        if different:
            raise ranks.blaming(
                UsageError(
                    f"{ranks.named(rank)} has another program than {ranks.named(0)}: {'; '.join(different)}; install "
                    "the same on all"
                ),
                rank,
            )
