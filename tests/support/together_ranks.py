"""Four real ranks that play with a policy whose ranks answer together; each writes down what it was asked.

Started by torchrun. Whoever answers waits for the ranks of its group, as vLLM's tensor parallel ranks do: one that
asked something else, or left, is found out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist

from msgrpo_cli.episode import Completion, Start
from msgrpo_cli.errors import Interrupted
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.rollout.play import Decision, PlayRules, play_episodes
from msgrpo_cli.rollout.players import RandomPlayer
from msgrpo_cli.training.parallel.ranks import Ranks
from msgrpo_cli.training.parallel.shares import shared_play

RULES = PlayRules(env="frozenlake", max_live_episodes=3)
STARTS = [Start(group, group, member, (0, group, member)) for group in range(3) for member in range(2)]


class Renewed:
    """Has weights of its own; counts how often it is given some, which all ranks do at once."""

    def __init__(self, together: int) -> None:
        self.together, self.times = together, 0

    def renew(self, model: Any) -> None:
        dist.barrier()
        self.times += 1


class Together:
    """A player of several ranks."""

    def __init__(self, ranks: Ranks, together: int) -> None:
        self.generator, self.model, self.asked = Renewed(together), object(), set()  # type: ignore[var-annotated]
        parts = [list(range(first, first + together)) for first in range(0, ranks.count, together)]
        self.group, _ = dist.new_subgroups_by_enumeration(parts)

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        keys = [asked.key for asked in decisions]
        found: list[Any] = [None] * self.generator.together
        dist.all_gather_object(found, keys, group=self.group)
        assert all(one == keys for one in found)
        self.asked |= {key[1] for key in keys}
        return RandomPlayer().act(decisions)


def lake() -> FrozenLake:
    return FrozenLake(max_steps=6)


def main() -> None:
    folder, ranks = Path(sys.argv[1]), Ranks.joined(timeout=timedelta(seconds=20))
    alone = play_episodes(STARTS, lake, RandomPlayer(), RULES)
    heard: dict[str, Any] = {}
    for together in (1, 2, 4):
        policy = Together(ranks, together)
        played = shared_play(ranks)(STARTS, lake, policy, RULES)
        heard[str(together)] = [played == alone, sorted(policy.asked), policy.generator.times]

    def leaves(finished: int, total: int) -> None:
        if ranks.rank == 1:
            raise Interrupted("asked to end", 143)

    try:
        shared_play(ranks)(STARTS, lake, Together(ranks, 2), RULES, None, leaves)
    except Interrupted as left:
        heard["left"] = str(left)
    (folder / f"rank-{ranks.rank}.json").write_text(json.dumps(heard))


if __name__ == "__main__":
    main()
