"""Group-relative advantages against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from msgrpo_cli.algo.advantage import Scale, equal_rewards
from support.groups import group_advantages


def test_rewards_scaled_by_the_group_s_own_spread() -> None:
    # mean 0, variance (1 + 1) / 3 with Bessel's correction, std 0.8164966, plus 1e-4
    advantages = group_advantages(np.array([[1.0, 0.0, 0.0, -1.0]]))
    assert advantages == pytest.approx(np.array([[1.2245949, 0.0, 0.0, -1.2245949]]), abs=1e-7)


def test_each_group_has_its_own_mean_and_spread() -> None:
    # group 1: mean 0.5, std 0.7071068; group 2: mean 2, std 1.4142136
    advantages = group_advantages(np.array([[1.0, 0.0], [3.0, 1.0]]))
    assert advantages == pytest.approx(np.array([[0.7070068, -0.7070068], [0.7070568, -0.7070568]]), abs=1e-7)


def test_rewards_scaled_by_the_spread_of_the_whole_update() -> None:
    # all rewards: mean 1.25, variance 4.75 / 3, std 1.2583057; the means are still the groups'
    advantages = group_advantages(np.array([[1.0, 0.0], [3.0, 1.0]]), "batch")
    assert advantages == pytest.approx(np.array([[0.3973281, -0.3973281], [0.7946563, -0.7946563]]), abs=1e-7)


def test_rewards_that_are_only_centred() -> None:
    advantages = group_advantages(np.array([[1.0, 0.0, 0.0, 0.0], [3.0, 1.0, -2.0, 0.0]]), "none")
    assert advantages.tolist() == [[0.75, -0.25, -0.25, -0.25], [2.5, 0.5, -2.5, -0.5]]


def test_a_rare_win() -> None:
    # 2 wins of 16: mean 1/8, variance 16/15 * 7/64, std 0.3415650
    advantages = group_advantages(np.array([[1.0] * 2 + [0.0] * 14]))
    assert advantages[0, 0] == pytest.approx(2.5609879, abs=1e-7)
    assert advantages[0, 2] == pytest.approx(-0.3658554, abs=1e-7)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_sixteen_equal_rewards_in_float32_are_exactly_zero(scale: Scale) -> None:
    rewards = np.full((1, 16), 0.93, dtype=np.float32)
    in_float32 = rewards - np.cumsum(rewards, dtype=np.float32)[-1] / np.float32(16)
    assert np.abs(in_float32 / 1e-4).max() > 5e-4, "the trap must be there"
    assert group_advantages(rewards, scale).tolist() == [[0.0] * 16]


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_a_group_without_spread_is_exactly_zero_beside_one_with(scale: Scale) -> None:
    third = 1.0 / 3.0
    advantages = group_advantages(np.array([[third, third + 1e-10, third], [0.0, 1.0, 0.0]]), scale)
    assert advantages[0].tolist() == [0.0, 0.0, 0.0]
    assert advantages[1, 1] > 0.5


@pytest.mark.parametrize(
    ("rewards", "equal"),
    [
        ([0.93, 0.93 + 9e-10], True),
        ([0.93, 0.93 + 2e-9], False),
        ([1e6, 1e6 + 5e-4], True),  # the limit grows with the rewards
        ([-1e6, -1e6 + 5e-3], False),
        ([0.0, 0.0], True),
    ],
)
def test_what_counts_as_equal(rewards: list[float], equal: bool) -> None:
    assert equal_rewards(np.array([rewards])).tolist() == [equal]
    assert bool((group_advantages(np.array([rewards])) == 0.0).all()) is equal


def test_computed_in_float64_whatever_comes_in() -> None:
    rewards = np.array([[0.1, 0.7, -0.3, 0.25]], dtype=np.float32)
    advantages = group_advantages(rewards)
    assert advantages.dtype == np.float64
    assert advantages.tolist() == group_advantages(rewards.astype(np.float64)).tolist()


REWARDS = np.array([[4.0, -2.0, 1.0, 0.5, 7.0, -3.5], [2.0, 2.0, 2.0, -5.0, 6.0, 2.5]])


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_the_mean_of_every_group_is_zero(scale: Scale) -> None:
    assert group_advantages(REWARDS, scale).mean(axis=1) == pytest.approx(np.zeros(2), abs=1e-12)


@pytest.mark.parametrize("scale", ["group", "none"])
def test_a_constant_added_to_the_rewards_of_a_group_changes_nothing(scale: Scale) -> None:
    shifted = REWARDS + np.array([[100.0], [-7.0]])
    assert group_advantages(shifted, scale) == pytest.approx(group_advantages(REWARDS, scale), abs=1e-10)


@pytest.mark.parametrize("factor", [0.5, 3.0, 1000.0])
def test_a_factor_changes_nothing_but_the_small_constant(factor: float) -> None:
    scaled, plain = group_advantages(REWARDS * factor), group_advantages(REWARDS)
    assert scaled == pytest.approx(plain, abs=1e-4)
    assert not np.array_equal(scaled, plain)


def test_without_scaling_a_factor_stays() -> None:
    assert group_advantages(REWARDS * 3.0, "none") == pytest.approx(3.0 * group_advantages(REWARDS, "none"))
