"""What the printed intervals promise, simulated: starts that repeat, players that are good at some of them only.

An evaluation draws its starts from one part of the game's; what its interval speaks of is how the player fares on that
part, as the game draws from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from msgrpo_cli.common.statistics import (
    bootstrap_interval,
    mean_interval,
    smallest_detectable_difference,
    wilson_interval,
)
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.rollout.split import split_of

EVALUATIONS, EPISODES = 400, 500
Player = Callable[[np.random.Generator, int], np.ndarray]
"""Its chance to win on each start, shape (starts,)."""
PLAYERS: dict[str, Player] = {
    "alike everywhere": lambda rng, starts: np.full(starts, 0.45),
    "good or bad, by the start": lambda rng, starts: rng.beta(0.5, 0.5, starts),
    "fails on a few": lambda rng, starts: np.where(rng.random(starts) < 0.1, 0.1, 0.97),
    "always ends alike": lambda rng, starts: (rng.random(starts) < 0.9).astype(float),
}


@cache
def weights_of_lakes() -> np.ndarray:
    """How often each lake of the test part is drawn; shape (starts,). Of 4x4 lakes few carry most of the weight."""
    game, met = FrozenLake(p=0.9), Counter[bytes]()
    for seed in range(4000):
        game.reset(seed=seed)
        if split_of(game.split_key()) == "test":
            met[game.state_key()] += 1
    weights = np.array(list(met.values()), dtype=float)
    assert len(weights) < EPISODES / 4, "starts repeat"
    return weights / weights.sum()


@pytest.mark.slow
@pytest.mark.parametrize("player", PLAYERS)
def test_intervals_hold_the_truth_as_often_as_they_say(player: str) -> None:
    rng = np.random.default_rng(0)
    weights = weights_of_lakes()
    held: Counter[str] = Counter()
    for _ in range(EVALUATIONS):
        chances, other = (PLAYERS[player](rng, len(weights)) for _ in range(2))
        starts = rng.choice(len(weights), EPISODES, p=weights)
        wins, others = (rng.random(EPISODES) < of[starts] for of in (chances, other))
        share, apart = float(weights @ chances), float(weights @ (chances - other))
        rewards = wins * 2.0 - 0.1 * rng.integers(1, 9, EPISODES)  # won or not, and some cost of every step
        for name, interval, truth in (
            ("share", wilson_interval(int(wins.sum()), EPISODES), share),
            ("mean", mean_interval(rewards.tolist()), 2 * share - 0.45),
            ("pairs", bootstrap_interval((wins - 1.0 * others).tolist(), resamples=1000), apart),
        ):
            assert interval is not None
            held[name] += interval[0] <= truth <= interval[1]
    coverage = {name: count / EVALUATIONS for name, count in held.items()}
    assert all(0.93 <= value <= 0.97 for value in coverage.values()), coverage


def test_the_smallest_detectable_difference_is_found_four_times_of_five() -> None:
    """The same model as the intervals': of two players so far apart on the part, 80 % of evaluations show it."""
    rng = np.random.default_rng(0)
    weights = weights_of_lakes()
    chances = PLAYERS["good or bad, by the start"](rng, len(weights)) * 0.8

    def play(of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        starts = rng.choice(len(weights), EPISODES, p=weights)
        return rng.random(EPISODES) < chances[starts], rng.random(EPISODES) < of[starts]

    smallest = smallest_detectable_difference(*(column.tolist() for column in play(chances)))
    assert smallest is not None
    better, found = chances + smallest, 0
    for _ in range(EVALUATIONS):
        first, second = play(better)
        apart = second - 1.0 * first
        found += abs(apart.mean()) > 1.96 * apart.std(ddof=1) / EPISODES**0.5
    assert 0.74 <= found / EVALUATIONS <= 0.86
