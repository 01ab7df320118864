"""Train, validation and test parts: their shares, and that only the wanted part is ever started from."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from msgrpo_cli.common.seeding import seed_from
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.blackjack import Blackjack
from msgrpo_cli.games.core import Observation, TextMediatedStochasticGame
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.games.sokoban import Sokoban
from msgrpo_cli.rollout.split import Split, has_split, keyed_seed, split_of, start_seeds
from support.chance import fits

PARTS: tuple[Split, ...] = ("train", "validation", "test")


class Coin(TextMediatedStochasticGame):
    """Two starts, so nothing can be held out."""

    actions = ("heads", "tails")
    initial_states = "few"
    side = 0

    def new_game(self, rng: np.random.Generator) -> None:
        self.side = int(rng.integers(2))

    def play(self, action: str) -> tuple[float, str | None]:
        return float(self.actions.index(action) == self.side), "shown"

    def describe(self, observation: Observation = "full") -> str:
        return "A coin lies under a cup."

    def rules(self) -> str:
        return "Say what it shows."

    def state_key(self) -> bytes:
        return bytes([self.side])


def test_shares_are_an_eighth_an_eighth_and_the_rest() -> None:
    parts = [split_of(f"state {index}".encode()) for index in range(8000)]
    assert fits([parts.count(part) for part in PARTS], [6 / 8, 1 / 8, 1 / 8])
    assert len(parts) == sum(parts.count(part) for part in PARTS)


def test_parts_of_typed_in_states() -> None:
    parts = [split_of(f"state {number}".encode()) for number in (2, 3, 4, 7, 8, 9, 11)]
    assert parts == ["train", "train", "test", "test", "train", "validation", "test"]


@pytest.mark.parametrize("size", range(2, 11))
def test_the_lake_without_holes_is_in_train(size: int) -> None:
    game = FrozenLake(size=size, p=1.0)
    game.reset(seed=0)
    assert "H" not in "".join(game.board)
    assert split_of(game.state_key()) == "train"


def test_every_seed_belongs_to_exactly_one_part_and_its_start_lies_there() -> None:
    game = FrozenLake()
    found: list[int] = []
    for part in PARTS:
        seeds = list(start_seeds(game, part, iter(range(300))))
        assert seeds == sorted(seeds)
        assert len(seeds) > 10
        for seed in seeds:
            game.reset(seed=seed)
            assert split_of(game.state_key()) == part
        found += seeds
    assert sorted(found) == list(range(300))


def test_sokoban_is_held_out_by_level_whatever_stands_on_it() -> None:
    game = Sokoban()
    game.reset(seed=0)
    before = game.split_key(), game.state_key()
    keys = set()
    for action in range(4):
        game.reset(seed=0)
        game.step(action)
        keys.add(game.state_key())
        assert game.split_key() == before[0]
    assert keys - {before[1]}, "some move is possible"
    levels = {}
    for seed in start_seeds(game, "test", iter(range(200))):
        game.reset(seed=seed)
        levels[game.split_key()] = split_of(game.split_key())
    assert set(levels.values()) == {"test"}


def test_natural_repetition_stays() -> None:
    game = FrozenLake(p=0.9)
    keys = []
    for seed in start_seeds(game, "train", iter(range(400))):
        game.reset(seed=seed)
        keys.append(game.state_key())
    assert max(keys.count(key) for key in set(keys)) > 50  # the lake without holes alone is 24 % of the mass
    seed = next(start_seeds(game, "test", count()))
    assert list(start_seeds(game, "test", iter([seed] * 3))) == [seed] * 3


def test_any_takes_every_seed_and_leaves_the_game_alone() -> None:
    game = FrozenLake()
    game.reset(seed=5)
    before = game.state_key()
    assert list(start_seeds(game, "any", iter(range(100)))) == list(range(100))
    assert game.state_key() == before


def test_a_game_with_few_starts_has_no_split() -> None:
    assert has_split(FrozenLake())
    assert not has_split(Coin(max_steps=1))
    assert not has_split(Blackjack()), "its starts read like what comes later"
    assert list(start_seeds(Coin(max_steps=1), "test", iter(range(50)))) == list(range(50))


def test_a_part_that_is_never_found_is_an_error() -> None:
    same = FrozenLake(size=2, p=1.0)
    with pytest.raises(UsageError, match="no initial state of the test part in 10000 seeds"):
        next(start_seeds(same, "test", count()))
    assert list(start_seeds(same, "test", iter(range(50)))) == []


@pytest.mark.parametrize("part", PARTS)
def test_seed_of_a_key_is_redrawn_until_it_lies_in_the_part(part: Split) -> None:
    game = FrozenLake()
    keys = [(0, update, group) for update in range(10) for group in range(3)]
    seeds = [keyed_seed(game, part, key) for key in keys]
    assert len(set(seeds)) == 30
    assert seeds == [keyed_seed(FrozenLake(), part, key) for key in keys]
    for seed in seeds:
        game.reset(seed=seed)
        assert split_of(game.state_key()) == part


def test_seed_of_a_key_is_its_first_where_everything_is_allowed() -> None:
    assert keyed_seed(FrozenLake(), "any", (0, 1, 2)) == seed_from((0, 1, 2, "start", 0))
