"""Values of a policy: by hand on a corridor, and against what thousands of played episodes really brought."""

from __future__ import annotations

import numpy as np
import pytest

from msgrpo_cli.episode import Start
from msgrpo_cli.games.core import PlaceableDynamics
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.rollout.play import PlayRules, play_episodes
from msgrpo_cli.rollout.players import ExactPlayer, RandomPlayer
from msgrpo_cli.rollout.values import Habit, PolicyValues, reachable
from support.planted_games import Fenced

UNIFORM = Habit(dict.fromkeys(FrozenLake.actions, 0.25))


def pond() -> FrozenLake:
    """S F / F G."""
    game = FrozenLake(size=2, p=1.0, max_steps=3)
    game.reset(seed=0)
    return game


def values_on(game: FrozenLake, habit: Habit, penalty: float = 0.0) -> PolicyValues:
    return PolicyValues(game, dict.fromkeys(reachable(game, game.state()), habit), penalty)


def test_by_hand() -> None:
    """Beside the goal one action of four wins: V_1 = 1/4, V_2 = 1/4 + 1/2 * 1/4 (stays) = 3/8. At the start two of
    four actions lead beside it: V_1 = 0, V_2 = 1/2 * 1/4 = 1/8, V_3 = 1/2 * 3/8 + 1/2 * 1/8 = 1/4."""
    game = pond()
    values = values_on(game, UNIFORM)
    start = game.state()
    beside = (game.board, False, 1)
    assert [values.value(start, left) for left in (1, 2, 3)] == pytest.approx([0.0, 1 / 8, 1 / 4])
    assert values.value(beside, 1) == pytest.approx(1 / 4)
    # from beside at (0, 1): up and right stay, left goes back to the start
    assert values.value(beside, 2) == pytest.approx(1 / 4 + 1 / 2 * 1 / 4)
    assert values.advantage(beside, 1, "down") == pytest.approx(3 / 4)
    assert values.advantage(start, 3, "right") == pytest.approx(3 / 8 - 1 / 4)


def test_along_an_episode_fewer_and_fewer_steps_are_left() -> None:
    """Right, up (stays), down: 3/8 - 1/4, then V_1 = 1/4 against V_2 = 3/8, then 1 against V_1 = 1/4."""
    game = pond()
    start, beside = game.state(), (game.board, False, 1)
    choices = [(start, "right", False), (beside, "up", False), (beside, "down", False)]
    found = values_on(game, UNIFORM).along(choices, steps_left=3)
    assert found.tolist() == pytest.approx([1 / 8, -1 / 8, 3 / 4])


def test_an_invalid_answer_costs_its_penalty() -> None:
    game = pond()
    values = values_on(game, Habit({"down": 1.0}, invalid=0.5), penalty=0.2)
    start = game.state()
    assert values.value(start, 1) == pytest.approx(-0.1)
    assert values.advantage(start, 1, "down", invalid=True) == pytest.approx(-0.1)
    assert values.advantage(start, 1, "down") == pytest.approx(0.1)


def test_what_is_reachable_is_neither_hole_nor_goal() -> None:
    game = FrozenLake()
    game.reset(seed=3)
    tiles = "".join(game.board)
    cells = {state[2] for state in reachable(game, game.state())}
    assert cells <= {cell for cell, tile in enumerate(tiles) if tile in "SF"}
    assert 0 in cells


@pytest.mark.slow
@pytest.mark.parametrize("slippery", [False, True])
def test_the_value_is_what_is_really_won(slippery: bool) -> None:
    def lake() -> FrozenLake:
        return FrozenLake(size=3, p=0.95, slippery=slippery, max_steps=12)

    game = lake()
    game.reset(seed=4)
    expected = values_on(game, UNIFORM).value(game.state(), 12)
    episodes = play_episodes([Start(4, 0, m, (0, m)) for m in range(4000)], lake, RandomPlayer(), PlayRules())
    won = np.array([episode.total_reward for episode in episodes])
    assert 0.02 < expected < 0.9
    assert won.mean() == pytest.approx(expected, abs=4 * won.std() / 4000**0.5)


def test_of_a_policy_that_plays_optimally_the_values_are_those_of_optimal_play() -> None:
    game, player = FrozenLake(), ExactPlayer()
    game.reset(seed=1)
    assert isinstance(game, PlaceableDynamics)
    start, habits = game.state(), {}
    for state in reachable(game, start):
        game.place(state)
        best = game.shortest_moves()[:1] or ["left"]
        habits[state] = Habit({best[0]: 1.0})
    game.place(start)
    assert PolicyValues(game, habits).value(start, game.max_steps) == pytest.approx(player.value(game))


def test_only_legal_moves_are_followed() -> None:
    """A board of two by two: transitions of other moves raise."""
    game = Fenced(size=2, p=1.0)
    game.reset(seed=0)
    assert len(reachable(game, game.state())) == 3
