"""Bounds of a policy's value: by hand, against dynamic programming of whole policies, and against what is played."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pytest

from msgrpo_cli.common.seeding import generator
from msgrpo_cli.episode import Completion, Start
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.rollout.play import InvalidAction, PlayRules, play_episodes
from msgrpo_cli.rollout.players import ExactPlayer
from msgrpo_cli.rollout.value_bounds import READINGS, Known, layers, worth
from msgrpo_cli.rollout.values import Habit, PolicyValues, reachable
from support.planted_games import Fenced

UNIFORM = Known(dict.fromkeys(FrozenLake.actions, 0.25))


def started(game: FrozenLake, seed: int = 0) -> FrozenLake:
    game.reset(seed=seed)
    return game


def pond(max_steps: int = 3) -> FrozenLake:
    """S F / F G."""
    return started(FrozenLake(size=2, p=1.0, max_steps=max_steps))


def test_a_planted_uniform_policy_is_worth_what_a_uniform_player_is() -> None:
    """1/4 on the pond by hand; on lakes what the whole policy's own dynamic programming gives."""
    game = pond()
    found = worth(game, [game.state()], PlayRules(), lambda taken, state: UNIFORM)
    assert [found.values[game.state()][one] for one in READINGS] == pytest.approx([0.25] * 3, abs=1e-15)
    for seed, slippery in ((3, False), (4, True)):
        lake = started(FrozenLake(p=0.9, slippery=slippery, max_steps=15), seed)
        start = lake.state()
        habits = dict.fromkeys(reachable(lake, start), Habit(dict(UNIFORM.shares)))
        wanted = PolicyValues(lake, habits).value(start, 15)
        found = worth(lake, [start], PlayRules(), lambda taken, state: UNIFORM)
        assert [found.values[start][one] for one in READINGS] == pytest.approx([wanted] * 3, abs=1e-14)


def test_of_nothing_known_the_best_is_optimal_play_and_the_worst_never_wins() -> None:
    game = started(FrozenLake(p=0.9, slippery=True, max_steps=15), 2)
    found = worth(game, [game.state()], PlayRules(), lambda taken, state: Known({})).values[game.state()]
    assert found["high"] == pytest.approx(ExactPlayer().value(game), abs=1e-14)
    assert found["low"] == pytest.approx(0.0, abs=1e-3)
    assert found["low"] <= found["invalid"] <= found["high"]


@pytest.mark.parametrize(("action", "penalty"), [("first", 0.0), ("noop", 0.2), ("random", 0.1), ("end", 0.1)])
def test_by_hand(action: InvalidAction, penalty: float) -> None:
    """Two steps on the pond; half of the answers say down, the other half is not known. Down goes beside the goal,
    where right wins and down stays; right goes above it, where down wins."""
    game = pond(max_steps=2)
    start, beside, above = game.state(), (game.board, False, 2), (game.board, False, 1)
    known = Known({"down": 0.5})
    rules = PlayRules(invalid_action=action, format_penalty=penalty)
    found = worth(game, [start], rules, lambda taken, state: known).values[start]
    chance = 0.25 if action == "random" else 0.0  # that an invalid answer wins beside or above the goal
    worst = 0.5 * min(0.0, chance - penalty)
    last = {
        "high": {start: 0.0, beside: 0.5 * 1.0, above: 0.5 * 1.0 + 0.5 * 1.0},
        "invalid": {
            start: -0.5 * penalty,
            beside: 0.5 * (chance - penalty),
            above: 0.5 * 1.0 + 0.5 * (chance - penalty),
        },
        "low": {start: -0.5 * penalty, beside: worst, above: 0.5 * 1.0 + worst},
    }
    high = 0.5 * last["high"][beside] + 0.5 * max(last["high"].values())
    assert found["high"] == pytest.approx(high)
    at = last["invalid"]
    brought = {
        "first": at[start],
        "noop": at[start],
        "random": (2 * at[start] + at[beside] + at[above]) / 4,
        "end": 0.0,
    }[action]
    assert found["invalid"] == pytest.approx(0.5 * at[beside] + 0.5 * (brought - penalty))
    at = last["low"]
    brought = {
        "first": at[start],
        "noop": at[start],
        "random": (2 * at[start] + at[beside] + at[above]) / 4,
        "end": 0.0,
    }[action]
    assert found["low"] == pytest.approx(0.5 * at[beside] + 0.5 * min(brought - penalty, min(at.values())))


class _Mumbling:
    """Says down with probability 0.4, right with 0.3, something that is no action with 0.3."""

    def act(self, decisions: object) -> list[Completion]:
        said = []
        for asked in decisions:  # type: ignore[attr-defined]
            number = generator((*asked.key, "mumble")).random()
            action = "down" if number < 0.4 else "right" if number < 0.7 else None
            said.append(Completion(str(action), action))
        return said


@pytest.mark.parametrize("action", ["first", "random", "noop", "end"])
def test_what_is_played_brings_what_was_computed(action: InvalidAction) -> None:
    def lake() -> FrozenLake:
        return FrozenLake(size=3, p=0.95, slippery=True, max_steps=8)

    rules = PlayRules(invalid_action=action, format_penalty=0.05)
    game = started(lake(), 4)
    found = worth(game, [game.state()], rules, lambda taken, state: Known({"down": 0.4, "right": 0.3}, 0.3))
    values = found.values[game.state()]
    assert values["low"] == pytest.approx(values["high"])
    episodes = play_episodes([Start(4, 0, m, (0, m)) for m in range(3000)], lake, _Mumbling(), rules)
    won = np.array([episode.total_reward for episode in episodes])
    assert won.mean() == pytest.approx(values["invalid"], abs=4 * won.std() / 3000**0.5)
    steps = sum(len(episode.steps) for episode in episodes) / 3000
    assert sum(found.visits.values()) == pytest.approx(steps, rel=0.03)
    assert found.visits[0, game.state()] == 1.0


def test_starts_count_as_often_as_they_are_there_and_only_legal_moves_are_followed() -> None:
    game = Fenced(size=2, p=1.0)
    game.reset(seed=0)
    assert isinstance(game, FrozenLake)
    start, other = game.state(), (game.board, False, 1)
    found = worth(game, [start, other, start], PlayRules(), lambda taken, state: Known({game.legal_in(state)[0]: 1.0}))
    assert found.visits[0, start] == pytest.approx(2 / 3)
    assert set(found.values) == {start, other}


def test_layers_end_where_play_does() -> None:
    game = pond(max_steps=100)
    game.place((game.board, False, 0))
    cells: list[set[Hashable]] = [{state[2] for state in layer} for layer in layers(game, [game.state()], PlayRules())]
    assert cells[:3] == [{0}, {0, 1, 2}, {0, 1, 2}]
    assert len(cells) == 100
