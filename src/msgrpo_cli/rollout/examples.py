"""Worked turns for a prompt: states of the train part, and what a reference player does there.

Knows games, starts and reference players. Knows nothing about tokens, models or training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msgrpo_cli.common.seeding import generator
from msgrpo_cli.episode import Completion, Start
from msgrpo_cli.games.core import Observation

from .play import Decision, GameFactory, PlayRules, Policy, play_episodes
from .players import RandomPlayer
from .split import keyed_seed

Turn = tuple[str, str]
"""A state, as it is described, and the action that is shown for it."""
_AT_ONCE, _MOST_STARTS = 8, 64


class _Watched:
    """Plays at random, so that many states are met, and asks a teacher in each."""

    def __init__(self, teacher: Policy) -> None:
        self._teacher, self._walker = teacher, RandomPlayer()
        self.turns: dict[str, str] = {}

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        for decision, said in zip(decisions, self._teacher.act(decisions), strict=True):
            self.turns.setdefault(decision.observation, str(said.action))
        return self._walker.act(decisions)


def worked_turns(
    make: GameFactory, count: int, teacher: Policy, seed: int, observation: Observation
) -> tuple[Turn, ...]:
    """`count` different states met by random play from starts of the train part, and what `teacher` does there.

    Every action that the teacher is seen to take is shown at least once where `count` allows. The same for the same
    arguments. Raises ValueError where fewer states are met, UsageError where a game of free text lists no moves.
    """
    game = make()
    watched, rules = _Watched(teacher), PlayRules(observation=observation)
    for first in range(0, _MOST_STARTS, _AT_ONCE):
        keys = [(seed, "example", number) for number in range(first, first + _AT_ONCE)]
        play_episodes([Start(keyed_seed(game, "train", key), 0, 0, key) for key in keys], make, watched, rules)
        if len(watched.turns) >= count and set(game.actions or ()) <= set(watched.turns.values()):
            break
    if len(watched.turns) < count:
        raise ValueError(f"only {len(watched.turns)} different states were met from {_MOST_STARTS} starts")
    turns = list(watched.turns.items())
    mixed = [turns[place] for place in generator((seed, "examples")).permutation(len(turns))]
    first_of_each = {action: number for number, (_, action) in reversed(list(enumerate(mixed)))}
    needed = set(sorted(first_of_each.values())[:count])
    others = [number for number in range(len(mixed)) if number not in needed]
    return tuple(mixed[number] for number in np.sort([*needed, *others[: count - len(needed)]]))
