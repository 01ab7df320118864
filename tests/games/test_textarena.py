"""Games of TextArena, the real ones: their words, their chance, their ends, and what is refused."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("textarena")

import numpy as np

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.rollout.game_check import CHECKS, _result

HANOI = [
    "env.game=TowerOfHanoi-v0",
    "env.actions=[a b,a c,b a,b c,c a,c b]",
    "env.initial_states=few",
    "env.max_steps=14",
]
TELLING = {"values", "speed"}
"""Checks that only tell."""
SIDES = "env.actions=[up,down,left,right]"


def env_of(*overrides: str):  # type: ignore[no-untyped-def]
    return compose("train", ["env=textarena", *overrides]).env


def test_a_game_is_won_with_its_own_words() -> None:
    game = make_game(env_of(*HANOI))
    text, _ = game.reset(seed=0)
    assert text == "Current Board: \nA: [3, 2, 1]\nB: []\nC: []\n."
    assert "Tower of Hanoi with 3 disks" in game.rules() and "at most 14 moves" in game.rules()
    rewards = []
    for move in ("a c", "a b", "c b", "a c", "b a", "b c", "a c"):
        text, reward, terminated, *_, info = game.step(game.actions.index(move))
        rewards.append(reward)
    assert rewards == [0, 0, 0, 0, 0, 0, 1] and terminated and info["ended_by"] == "end" and game.success
    assert text.startswith("Current Board: \nA: []\nB: []\nC: [3, 2, 1]")


def test_an_invalid_move_is_told_and_the_second_ends_the_game() -> None:
    game = make_game(env_of(*HANOI))
    game.reset(seed=0)
    before = game.state_key()
    text, reward, terminated, *_ = game.step(game.actions.index("b c"))
    assert "invalid move" in text and (reward, terminated) == (0, False)
    assert game.state_key() != before
    _, _, terminated, *_ = game.step(game.actions.index("b c"))
    assert terminated and not game.success


def test_chance_comes_from_the_member_and_the_global_generators_are_left_alone() -> None:
    game, other = make_game(env_of()), make_game(env_of())
    random.seed(1), np.random.seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist()
    texts = []
    for one, member in ((game, 0), (other, 0), (other, 1)):
        start, _ = one.reset(seed=3)
        one.np_random = np.random.default_rng(member)
        texts.append([start, *(one.step(move % 4)[0] for move in range(8))])
    assert texts[0] == texts[1] != texts[2] and texts[1][0] == texts[2][0]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["env.game=FifteenPuzzle-v0", SIDES],
        ["env.game=FrozenLake-v0", SIDES],
        ["env.game=Blackjack-v0", "env.actions=[hit,stand]"],
        ["env.game=Secretary-v0", "env.actions=[accept,continue]", "env.max_steps=5"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_other_games_pass_the_checks(overrides: list[str]) -> None:
    """Fresh processes are asked for one of the games: they import TextArena for seconds, and the class is the same."""
    env = env_of(*overrides)
    names = [name for name in CHECKS if name not in TELLING and (name != "repeats" or "Secretary" in env.game)]
    checks = [_result(name, CHECKS[name], env) for name in names]
    assert [(check.name, check.detail) for check in checks if not check.passed] == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("env.game=Lightsout-v0", "TextArena has no game of that name; did you mean 'LightsOut-v0'?"),
        ("env.game=ConnectFour-v0", "env.game=ConnectFour-v0: cannot be started by one player: "),
        ("env.arguments={rows:9}", "env.game=2048-v0-mega-easy: cannot be made: TypeError: "),
        ("env.answer=move", "env.answer=move: must hold {action}"),
        (
            "env.actions=[x,y]",
            "env.actions=['x', 'y']: 2048-v0-mega-easy refuses every one of them, told as",
        ),
    ],
)
def test_what_textarena_cannot_do_is_refused(override: str, said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        env_of(override)
    assert said in str(refusal.value)
