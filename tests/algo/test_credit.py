"""Credit: every variant against numbers typed by hand, and what must hold whatever the rewards are."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from msgrpo_cli.algo.advantage import Scale
from msgrpo_cli.algo.credit import CREDITS, CreditName, CreditRules, Rewards, step_advantages
from msgrpo_cli.episode import Completion, Episode, Start, Step

ALL: list[CreditName] = list(CREDITS)


def episode(rewards: list[float], states: str, group: int = 0, member: int = 0) -> Episode:
    steps = [
        Step("", Completion("", "go"), "go", reward, state.encode())
        for reward, state in zip(rewards, states, strict=True)
    ]
    return Episode("given", Start(group, group, member, (0,)), tuple(steps), True, False, "end", None)


A, B = episode([2.0, 0.0], "sx"), episode([0.0, 0.0, 1.0], "sxx", member=1)


def given(name: CreditName, *episodes: Episode, scale: Scale = "group", **rules: Any) -> list[list[float]]:
    """The advantages of groups of two episodes."""
    return [list(values) for values in step_advantages(episodes, 2, name, CREDITS[name].rules(scale, **rules))]


def agree(found: list[list[float]], expected: list[list[float]]) -> None:
    assert [len(values) for values in found] == [len(values) for values in expected]
    for some, others in zip(found, expected, strict=True):
        assert some == pytest.approx(others, abs=1e-7)


def test_episode() -> None:
    """Totals 2 and 1: mean 1.5, Bessel std 0.70710678; 0.5 / 0.70720678."""
    agree(given("episode", A, B), [[0.70700679] * 2, [-0.70700679] * 3])


def test_last_reward() -> None:
    """Last rewards 0 and 1."""
    agree(given("last_reward", A, B), [[-0.70700679] * 2, [0.70700679] * 3])


def test_return_to_go() -> None:
    """G = 2, 0 and 1, 1, 1: mean 1, Bessel variance 2 / 4; 1 / 0.70720678."""
    agree(given("return_to_go", A, B), [[1.41401359, -1.41401359], [0.0, 0.0, 0.0]])


def test_return_to_go_against_the_same_time() -> None:
    """t=0: 2 and 1; t=1: 0 and 1; t=2: 1 alone."""
    found = given("return_to_go", A, B, baseline_scope="group_and_time")
    agree(found, [[0.70700679, -0.70700679], [-0.70700679, 0.70700679, 0.0]])


def test_return_to_go_discounted() -> None:
    """G = 2, 0 and 0.25, 0.5, 1 for gamma 0.5: mean 0.75, squares 1.5625 + 0.5625 + 0.25 + 0.0625 + 0.0625 = 2.5."""
    std = 0.625**0.5 + 1e-4
    found = given("return_to_go", A, B, gamma=0.5)
    agree(found, [[1.25 / std, -0.75 / std], [-0.5 / std, -0.25 / std, 0.25 / std]])


def test_gigpo() -> None:
    """gamma 0.5, w 2. State s: 2 and 0.25, mean 1.125; state x: 0, 0.5 and 1 (visited twice by b), mean 0.5."""
    found = given("gigpo", A, B, gamma=0.5, step_weight=2.0)
    agree(found, [[2.45700679, -0.29299321], [-2.45700679, -0.70700679, 0.29299321]])


def test_gigpo_divided() -> None:
    """s: 0.875 / (1.23743687 + 1e-4); x: 0.5 / 0.5001."""
    found = given("gigpo", A, B, gamma=0.5, step_scale="group")
    agree(found, [[1.41405643, -0.29279325], [-1.41405643, -0.70700679, 0.29279325]])


def test_gigpo_adds_nothing_to_a_state_that_nothing_else_visits() -> None:
    agree(given("gigpo", episode([1.0], "p"), episode([0.0], "q")), [[0.70700679], [-0.70700679]])


def test_gigpo_compares_within_a_group() -> None:
    """Both groups start in s; the second is ten times the first, and neither moves the other."""
    tenfold = [episode([20.0, 0.0], "sx", 1), episode([0.0, 0.0, 10.0], "sxx", 1, 1)]
    both = given("gigpo", A, B, *tenfold, gamma=1.0)
    agree(both[:2], given("gigpo", A, B, gamma=1.0))
    agree(both[2:], given("gigpo", *tenfold, gamma=1.0))


def test_step() -> None:
    """r = 2, 0, 0, 0, 1: mean 0.6, Bessel variance 3.2 / 4; divided by 0.89452719."""
    agree(given("step", A, B), [[1.56507260, -0.67074540], [-0.67074540, -0.67074540, 0.44716360]])


@pytest.mark.parametrize(("scale", "divisor"), [("none", 1.0), ("batch", 0.84993659)])
def test_scales_of_the_steps(scale: Scale, divisor: float) -> None:
    """G = 2, 0, 1, 1, 1 with mean 1, and 3, 1, 2, 2, 2 with mean 2; of all ten the Bessel variance is 6.5 / 9."""
    more = [episode([2.0, 1.0], "sx", 1), episode([0.0, 0.0, 2.0], "sxx", 1, 1)]
    found = given("return_to_go", A, B, *more, scale=scale)
    of_group = [[1 / divisor, -1 / divisor], [0.0, 0.0, 0.0]]
    agree(found, of_group * 2)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_equal_rewards_are_exactly_nothing(name: CreditName, scale: Scale) -> None:
    third = float(np.float32(0.1)) * 3
    found = given(name, episode([third], "s"), episode([third + 1e-12], "s", 0, 1), scale=scale)
    assert found == [[0.0], [0.0]]


@pytest.mark.parametrize("name", ["episode", "last_reward", "return_to_go", "step"])
def test_of_episodes_of_one_step_all_say_the_same(name: CreditName) -> None:
    ones = [episode([reward], "s", 0, member) for member, reward in enumerate((1.0, 0.0, 0.0, -1.0))]
    credit = step_advantages(ones, 4, name, CREDITS[name].rules("group"))
    agree([list(values) for values in credit], [[1.22459490], [0.0], [0.0], [-1.22459490]])


@pytest.mark.parametrize("name", ALL)
def test_what_the_order_of_groups_cannot_change(name: CreditName) -> None:
    rng = np.random.default_rng(0)
    groups = [
        [
            episode(list(rng.normal(size=length)), "sxyxs"[:length], group, member)
            for member, length in enumerate((2, 5))
        ]
        for group in range(3)
    ]
    in_order = given(name, *(one for group in groups for one in group))
    reversed_ = given(name, *(one for group in groups[::-1] for one in group))
    agree(reversed_, [*in_order[4:], *in_order[2:4], *in_order[:2]])
    assert any(first != pytest.approx(second) for first, second in pairwise(in_order))


@pytest.mark.parametrize("name", ["episode", "return_to_go", "step", "last_reward"])
def test_a_factor_of_all_rewards_changes_nothing(name: CreditName) -> None:
    scaled = [episode([1e4 * step.reward for step in one.steps], "sxx"[: len(one.steps)]) for one in (A, B)]
    plain = given(name, A, B)
    for some, others in zip(given(name, *scaled), plain, strict=True):
        assert some == pytest.approx(others, rel=2e-4, abs=1e-12)


def test_to_go_does_not_cross_from_one_episode_into_the_next() -> None:
    rewards = Rewards(np.array([1.0, 2.0, 4.0]), np.array([0, 0, 1]), np.array([0, 1, 0]), np.zeros(3), np.zeros(2))
    assert rewards.to_go(1.0).tolist() == [3.0, 2.0, 4.0]
    assert rewards.to_go(0.5).tolist() == [2.0, 2.0, 4.0]


def test_a_credit_refuses_what_it_does_not_read() -> None:
    with pytest.raises(ValueError, match="gamma"):
        CREDITS["step"].rules("group", gamma=0.9)
    assert CREDITS["gigpo"].rules("none", gamma=None) == CreditRules("none", gamma=0.95)
