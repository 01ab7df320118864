"""Worked turns: states of the train part, what a player does there, every action where that is possible."""

from __future__ import annotations

from itertools import islice

import pytest

from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.games.guess_number import GuessNumber
from msgrpo_cli.games.snake.game import Snake
from msgrpo_cli.rollout.examples import worked_turns
from msgrpo_cli.rollout.play import Decision
from msgrpo_cli.rollout.players import ExactPlayer, GreedyPlayer, RandomPlayer
from msgrpo_cli.rollout.split import start_seeds


def lake(size: int = 4) -> FrozenLake:
    return FrozenLake(size=size, max_steps=8)


@pytest.mark.parametrize(
    "teacher", [RandomPlayer(), GreedyPlayer(), ExactPlayer()], ids=["random", "greedy", "optimal"]
)
@pytest.mark.parametrize("count", [1, 4, 9])
def test_every_action_is_shown_as_far_as_there_is_room(teacher: RandomPlayer | GreedyPlayer, count: int) -> None:
    turns = worked_turns(lake, count, teacher, 0, "compact")
    assert len(dict(turns)) == count, "all states differ"
    assert len({action for _, action in turns}) == min(count, len(lake().actions))


def test_they_follow_from_the_seed_alone() -> None:
    found = [worked_turns(lake, 3, ExactPlayer(), seed, "full") for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_the_teacher_says_what_is_done() -> None:
    """Recomputed on the very states: each state of these lakes is searched for, and its best action looked up."""
    told = dict(worked_turns(lambda: lake(2), 2, ExactPlayer(), 5, "compact"))
    game, checked = lake(2), 0
    for seed in range(40):
        for moves in ([], ["right"], ["down"]):
            game.reset(seed=seed)
            if any(game.step(game.actions.index(move))[2] for move in moves):
                continue
            if (text := game.describe("compact")) in told:
                [said] = ExactPlayer().act([Decision(game, text, (0,))])
                assert told[text] == said.action
                checked += 1
    assert checked >= 2


def test_no_board_of_another_part_is_shown() -> None:
    """Of 3x3 lakes there are few, so that any choice without a look at the part would meet the others."""

    def board(text: str) -> str:
        return text.replace("P", ".")

    game = lake(3)
    others = set()
    for split in ("validation", "test"):
        for seed in islice(start_seeds(game, split, iter(range(10**6))), 300):
            game.reset(seed=seed)
            others.add(board(game.describe("compact")))
    shown = {
        board(text)
        for seed in range(6)
        for text, _ in worked_turns(lambda: lake(3), 9, RandomPlayer(), seed, "compact")
    }
    assert len(shown) > 5 and not shown & others


@pytest.mark.parametrize("make", [lambda: Snake(size=5, max_steps=10), lambda: GuessNumber(max_steps=5)])
def test_other_games_have_them_too(make: type) -> None:
    assert len(dict(worked_turns(make, 3, RandomPlayer(), 0, "compact"))) == 3


def test_more_than_there_are_states_is_refused() -> None:
    with pytest.raises(ValueError, match=r"only \d+ different states were met from 64 starts"):
        worked_turns(lambda: lake(2), 100, RandomPlayer(), 0, "compact")
