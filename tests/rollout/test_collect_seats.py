"""Credit and draws over (episode, seat) pairs: the identities that docs/algorithms.md states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msgrpo_cli.algo.advantage import by_group
from msgrpo_cli.algo.credit import CREDITS, CreditName, step_advantages
from msgrpo_cli.algo.episode_sampling import EpisodeSampling, reward_spread
from msgrpo_cli.episode import Completion, Episode, Seat, Start, Step
from msgrpo_cli.games.guard import GameError
from msgrpo_cli.rollout.collect import (
    PlayedUpdate,
    UpdateRules,
    play_update,
    rollout_metrics,
    starts_of_update,
    trained_pairs,
)
from msgrpo_cli.rollout.play import PlayRules
from msgrpo_cli.rollout.players import RandomPlayer
from msgrpo_cli.rollout.seating import SeatedPolicy, Seating
from support.two_player_games import Cards, Hands

RULES = UpdateRules(seed=3, groups_per_update=3, group_size=4)
SIZE = 4


def played(game: Any, **rules: Any) -> PlayedUpdate:
    own = replace(RULES, **rules)
    policy = SeatedPolicy(RandomPlayer(), lambda name: RandomPlayer())
    return play_update(1, own, game, policy, PlayRules())


def table(rewards: list[list[float]], seats: tuple[str, ...] = ()) -> list[Episode]:
    """Whole episodes of one group after the other: each seat decides once and gets its reward."""
    found = []
    for number, of_seats in enumerate(rewards):
        steps = tuple(
            Step("", Completion("", "a"), "a", reward, b"s", seat=seat) for seat, reward in enumerate(of_seats)
        )
        start = Start(0, number // SIZE, number % SIZE, (), seats)
        had = tuple(Seat(start.player(seat), reward, None) for seat, reward in enumerate(of_seats))
        found.append(Episode("game", start, steps, True, False, "end", None, seats=had, began=b"s"))
    return found


def advantages(episodes: list[Episode], credit: CreditName = "episode") -> dict[tuple[int, int | None], np.ndarray]:
    """By number of the episode and seat."""
    found, group_E = trained_pairs(episodes, SIZE)
    of_each = step_advantages(found, group_E, credit, CREDITS[credit].rules("group"))
    numbers = {(one.start.group, one.start.member): number for number, one in enumerate(episodes)}
    return {
        (numbers[pair.start.group, pair.start.member], pair.seat): advantage
        for pair, advantage in zip(found, of_each, strict=True)
    }


OF_SEATS = st.tuples(*[st.integers(-3, 3).map(float)] * 3)
REWARDS = st.lists(st.integers(-3, 3).map(float), min_size=2 * SIZE, max_size=2 * SIZE)


@settings(max_examples=50, deadline=None)
@given(REWARDS, st.sampled_from(sorted(CREDITS)))
def test_zero_sum_means_mirrored_advantages(rewards: list[float], credit: CreditName) -> None:
    of_each = advantages(table([[reward, -reward] for reward in rewards]), credit)
    for number in range(len(rewards)):
        np.testing.assert_allclose(of_each[number, 0], -of_each[number, 1], rtol=0, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(REWARDS, st.sampled_from(sorted(CREDITS)))
def test_a_common_reward_means_equal_advantages(rewards: list[float], credit: CreditName) -> None:
    of_each = advantages(table([[reward, reward, reward] for reward in rewards]), credit)
    for number in range(len(rewards)):
        for other in (1, 2):
            np.testing.assert_array_equal(of_each[number, 0], of_each[number, other])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(-3, 3).map(float)] * 3), min_size=SIZE, max_size=SIZE), st.permutations(range(3))
)
def test_permuted_seats_mean_permuted_advantages(rewards: list[tuple[float, ...]], order: list[int]) -> None:
    before = advantages(table([list(of_seats) for of_seats in rewards]))
    after = advantages(table([[of_seats[seat] for seat in order] for of_seats in rewards]))
    for number in range(SIZE):
        for seat, came_from in enumerate(order):
            np.testing.assert_array_equal(after[number, seat], before[number, came_from])


def test_a_seat_is_held_against_the_same_seat_alone_by_hand() -> None:
    of_each = advantages(table([[1.0, 10.0], [1.0, 20.0], [0.0, 10.0], [0.0, 20.0]]))
    std = (4 / 3 * 0.25) ** 0.5
    assert of_each[0, 0] == pytest.approx([0.5 / (std + 1e-4)]) and of_each[2, 0] == pytest.approx(
        [-0.5 / (std + 1e-4)]
    )
    assert of_each[0, 1] == pytest.approx([-5 / (10 * std + 1e-4)]) and of_each[1, 1] == -of_each[0, 1]


def test_seats_where_others_sit_are_no_pairs() -> None:
    found, group_E = trained_pairs(table([[1.0, 2.0]] * 8, ("random", "self")), SIZE)
    assert [pair.seat for pair in found] == [1] * 8 and group_E.tolist() == [0] * 4 + [1] * 4


def test_a_seat_that_never_came_to_decide_is_left_out_of_its_group() -> None:
    episodes = table([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]])
    episodes[1] = replace(episodes[1], steps=episodes[1].steps[:1])
    found, group_E = trained_pairs(episodes, SIZE)
    assert [(pair.start.member, pair.seat) for pair in found] == [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 0),
        (0, 1),
        (2, 1),
        (3, 1),
    ]
    assert group_E.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_members_of_a_group_share_start_and_seats_and_groups_rotate() -> None:
    game: Any = Cards()
    rules = replace(RULES, seating=Seating(("self", "random")))
    starts = starts_of_update(game, rules, 1)
    for group in range(3):
        members = [start for start in starts if start.group == group]
        assert len({start.seed for start in members}) == 1 and len({start.seats for start in members}) == 1
    assert [starts[group * 4].seats for group in range(3)] == [
        ("self", "random"),
        ("random", "self"),
        ("self", "random"),
    ]
    assert starts_of_update(game, rules, 2)[0].seats == ("random", "self"), "three groups on"


def test_a_draw_from_the_pool_belongs_to_update_group_and_seat() -> None:
    seating = Seating(("self", "pool"), rotate=False, pool=(("pool/0", 1.0), ("pool/4", 3.0)))
    drawn = [seating.of(number, (0, 1, number))[1] for number in range(400)]
    assert drawn == [seating.of(number, (0, 1, number))[1] for number in range(400)]
    assert 240 < drawn.count("pool/4") < 360


@pytest.mark.parametrize("game", [Cards, Hands])
def test_an_update_of_self_play_trains_both_seats(game: Any) -> None:
    found = played(game, episode_sampling="all")
    assert len(found.whole) == 12 and len(found.episodes) == 24 and len(found.advantages) == 24
    steps = sum(len(episode.steps) for episode in found.whole)
    assert sum(len(pair.steps) for pair in found.episodes) == steps, "each step is in exactly one pair"
    assert {pair.seat for pair, _ in found.trained} == {0, 1}
    metrics = rollout_metrics(found)
    assert metrics["episodes_played"] == 12 and metrics["pairs_played"] == 24 and metrics["steps_played"] == steps
    assert metrics["total_reward"] == pytest.approx(0.0), "zero sum, and self on both"
    assert metrics["total_reward/seat0"] == pytest.approx(-float(metrics["total_reward/seat1"] or 0.0))


def test_against_another_only_selfs_pairs_are_drawn() -> None:
    found = played(Hands, seating=Seating(("self", "random"), rotate=False), sample_fraction=0.5)
    assert {pair.seat for pair in found.episodes} == {0}
    metrics = rollout_metrics(found)
    assert metrics["pairs_drawn"] == metrics["episodes_drawn"] == 6
    assert "total_reward/seat1" not in metrics


@pytest.mark.parametrize("sampling", ["all", "uniform", "absolute_advantage", "variance_filter", "dynamic"])
def test_every_sampling_draws_pairs(sampling: EpisodeSampling) -> None:
    found = played(Hands, episode_sampling=sampling, most_groups=6)
    assert found.draw.drawn_E.any() and len(found.draw.drawn_E) == len(found.episodes)
    again = played(Hands, episode_sampling=sampling, most_groups=6)
    assert (again.draw.drawn_E == found.draw.drawn_E).all()


def test_nobody_to_train_is_told() -> None:
    class Deaf(Cards):  # type: ignore[valid-type, misc]
        def to_move(self) -> Any:
            return (0,)

        def play_turn(self, actions: Any) -> Any:
            return (0.0, 0.0), "over"

    with pytest.raises(GameError, match="in no episode of update 1 a seat of self came to decide"):
        played(Deaf, seating=Seating(("random", "self"), rotate=False))


def test_members_that_start_differently_are_found() -> None:
    class Unseeded(Cards):  # type: ignore[valid-type, misc]
        def new_game(self, rng: Any) -> None:
            super().new_game(np.random.default_rng())

    with pytest.raises(GameError, match="start from"):
        played(Unseeded)


def test_spreads_of_equal_groups_are_those_of_an_array() -> None:
    rewards = np.random.default_rng(0).normal(size=(6, 9))
    assert (reward_spread(rewards) == rewards.std(axis=1, ddof=1)).all(), "bit for bit"
    assert [len(one) for one in by_group(np.arange(5), np.array([0, 0, 1, 2, 2]))] == [2, 1, 2]
