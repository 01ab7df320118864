"""Episodes are shared out: every rank plays some of the groups, and all get all episodes.

Knows starts, groups and how to play. Knows nothing about models, losses or files. An episode depends on its key alone,
so the episodes are those that one process plays.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from msgrpo_cli.episode import Episode, Start
from msgrpo_cli.rollout.play import GameFactory, PlayEpisodes, Policy, play_episodes

from .ranks import Ranks
from .sharding import read_alone


def shared_play(ranks: Ranks) -> PlayEpisodes:
    """`play_episodes` on all ranks at once, each with the same arguments; whole groups go to one rank, in turn."""

    def play(starts: Sequence[Start], make_game: GameFactory, policy: Policy, *more: Any) -> list[Episode]:
        mine = share(starts, ranks.rank, ranks.count)
        some = [starts[number] for number in mine]
        model = getattr(policy, "model", None)
        with nullcontext() if model is None else read_alone(model):
            played = ranks.gather(lambda: play_episodes(some, make_game, policy, *more))
        numbers = [number for rank in range(ranks.count) for number in share(starts, rank, ranks.count)]
        episodes = dict(zip(numbers, (episode for part in played for episode in part), strict=True))
        return [episodes[number] for number in range(len(starts))]

    return play


def share(starts: Sequence[Start], rank: int, count: int) -> list[int]:
    """The numbers of the starts that a rank plays."""
    groups = {group: number for number, group in enumerate(dict.fromkeys(start.group for start in starts))}
    return [number for number, start in enumerate(starts) if groups[start.group] % count == rank]
