"""Drawing of episodes: inclusion probabilities by hand, and frequencies over many draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from msgrpo_cli.algo.episode_sampling import (
    Draw,
    EpisodeSampling,
    draw_episodes,
    effective_sample_size,
    inclusion_probabilities,
    reward_spread,
    systematic_sample,
)
from support.chance import NORMAL_LIMIT, fits
from support.groups import group_advantages

SAMPLINGS: tuple[EpisodeSampling, ...] = ("all", "uniform", "absolute_advantage", "variance_filter", "dynamic")


def drawn_of(advantage_GK: np.ndarray, sampling: EpisodeSampling, rng: np.random.Generator, **rules: Any) -> Draw:
    """Of groups of one size; flattened, E = G K."""
    groups, size = advantage_GK.shape
    return draw_episodes(advantage_GK.reshape(-1), np.repeat(np.arange(groups), size), sampling, rng, **rules)


@pytest.mark.parametrize(
    ("weights", "draws", "expected"),
    [
        ([1, 1, 2], 2, [1 / 2, 1 / 2, 1]),
        ([1, 1, 2], 1, [1 / 4, 1 / 4, 1 / 2]),
        ([1, 1, 2], 3, [1, 1, 1]),
        ([1, 1, 1, 1], 2, [1 / 2] * 4),
        ([0, 3, 0, 1], 1, [0, 3 / 4, 0, 1 / 4]),
        ([0, 3, 0, 1], 2, [0, 1, 0, 1]),
        ([8, 4, 1, 1], 2, [1, 2 / 3, 1 / 6, 1 / 6]),  # the first is certain, the rest share one draw
        ([9, 8, 1, 1, 1], 3, [1, 1, 1 / 3, 1 / 3, 1 / 3]),  # the second becomes certain only after the first
        ([1e-30, 1e-30, 1.0], 2, [1 / 2, 1 / 2, 1]),
        ([0, 0], 0, [0, 0]),
    ],
)
def test_inclusion_probabilities(weights: list[float], draws: int, expected: list[float]) -> None:
    assert inclusion_probabilities(np.array(weights), draws) == pytest.approx(np.array(expected), abs=1e-12)


def test_probabilities_sum_to_the_draws_and_are_proportional_below_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        weights = rng.exponential(size=rng.integers(1, 40)) ** rng.integers(1, 4) * (rng.random() < 0.9)
        positive = int(np.count_nonzero(weights))
        draws = int(rng.integers(0, positive + 1))
        probability = inclusion_probabilities(weights, draws)
        assert probability.sum() == pytest.approx(draws, abs=1e-9)
        assert probability.max(initial=0.0) <= 1.0
        ratios = probability[(probability < 1) & (weights > 0)] / weights[(probability < 1) & (weights > 0)]
        assert ratios == pytest.approx(np.full(len(ratios), ratios.mean() if len(ratios) else 0.0))


def test_more_draws_than_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="3 draws from 2 episodes with positive weight"):
        inclusion_probabilities(np.array([1.0, 0.0, 2.0]), 3)


def included(probability: list[float], draws: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([systematic_sample(np.array(probability), rng) for _ in range(draws)])


def test_weights_1_1_2_draw_the_last_and_one_of_the_others() -> None:
    drawn = included([0.5, 0.5, 1.0], 4000, seed=0)
    assert drawn[:, 2].all()
    assert (drawn.sum(axis=1) == 2).all()
    assert fits([drawn[:, 0].sum(), drawn[:, 1].sum()], [0.5, 0.5])


def test_one_draw_follows_the_probabilities() -> None:
    probability = [0.05, 0.4, 0.25, 0.0, 0.1, 0.2]
    counts = included(probability, 10_000, seed=1).sum(axis=0)
    assert counts.sum() == 10_000
    assert counts[3] == 0
    assert fits(np.delete(counts, 3).tolist(), [0.05, 0.4, 0.25, 0.1, 0.2])


def test_several_draws_include_each_episode_with_its_probability() -> None:
    weights = np.array([0.1, 0.3, 0.5, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 6.0])
    probability = inclusion_probabilities(weights, 4)
    share = included(probability.tolist(), 10_000, seed=2).mean(axis=0)
    error = np.sqrt(probability * (1 - probability) / 10_000)
    assert (np.abs(share - probability) <= 4.0 * error).all()  # ten at once: 99.9 % need 3.9
    assert share[9] == 1.0


def test_pairs_are_drawn_in_every_combination() -> None:
    """Without the random order of the pool, neighbours in it would never be drawn together."""
    drawn = included([0.5] * 4, 6000, seed=3)
    pairs = [int((drawn[:, first] & drawn[:, second]).sum()) for first in range(4) for second in range(first)]
    assert fits(pairs, [1 / 6] * 6)


def test_exactly_as_many_are_drawn_as_were_asked_for() -> None:
    rng = np.random.default_rng(4)
    for _ in range(1000):
        advantages = rng.normal(size=(4, 8)) ** 3 * (rng.random((4, 8)) < 0.7)
        advantages[0, 0] = 1.0
        fraction = rng.uniform(0.02, 1.0)
        wanted = max(1, int(np.floor(fraction * 32 + 0.5)))
        uniform = drawn_of(advantages, "uniform", rng, fraction=fraction)
        weighted = drawn_of(advantages, "absolute_advantage", rng, fraction=fraction)
        assert uniform.drawn_E.sum() == wanted
        assert weighted.drawn_E.sum() == min(wanted, np.count_nonzero(advantages))
        assert not weighted.drawn_E[advantages.reshape(-1) == 0].any()


@pytest.mark.parametrize(
    ("episodes", "fraction", "drawn"), [(10, 0.25, 3), (10, 0.24, 2), (16, 0.03, 1), (2, 0.1, 1), (8, 1.0, 8)]
)
def test_the_share_is_rounded_half_up_and_never_nothing(episodes: int, fraction: float, drawn: int) -> None:
    advantages = np.arange(1.0, episodes + 1).reshape(1, -1)
    for sampling in ("uniform", "absolute_advantage"):
        draw = drawn_of(advantages, sampling, np.random.default_rng(0), fraction=fraction)
        assert draw.drawn_E.sum() == drawn


def test_all_takes_everything() -> None:
    draw = drawn_of(np.array([[1.0, 0.0], [0.0, 0.0]]), "all", np.random.default_rng(0), fraction=0.25)
    assert draw.drawn_E.tolist() == [True] * 4
    assert draw.factor_E.tolist() == [1.0] * 4


def test_equal_absolute_advantages_are_drawn_as_uniformly() -> None:
    signs = np.where(np.random.default_rng(0).random((2, 8)) < 0.5, 0.3, -0.3)
    drawn = []
    for seed in range(200):
        uniform = drawn_of(signs, "uniform", np.random.default_rng(seed), fraction=0.4)
        weighted = drawn_of(signs, "absolute_advantage", np.random.default_rng(seed), fraction=0.4)
        assert uniform.drawn_E.tolist() == weighted.drawn_E.tolist()
        drawn.append(weighted.drawn_E)
    assert len({tuple(one.tolist()) for one in drawn}) > 100
    assert fits(np.sum(drawn, axis=0).tolist(), [1 / 16] * 16)


def test_the_same_generator_draws_the_same() -> None:
    advantages = np.random.default_rng(0).normal(size=(2, 8))
    draws = [drawn_of(advantages, "absolute_advantage", np.random.default_rng(5), fraction=0.5) for _ in range(2)]
    assert draws[0].drawn_E.tolist() == draws[1].drawn_E.tolist()


def test_rare_wins_are_pushed_up() -> None:
    """16 episodes with 2 wins: A = 2.5610 and -0.3659; 4 drawn: c = 4 / 10.2439, so p = 1 and 1/7."""
    advantages = group_advantages(np.array([[1.0] * 2 + [0.0] * 14]))
    means = []
    for seed in range(100):
        draw = drawn_of(advantages, "absolute_advantage", np.random.default_rng(seed), fraction=0.25)
        assert draw.drawn_E[:2].all()
        means.append(advantages.reshape(-1)[draw.drawn_E].mean())
    assert means == pytest.approx([1.0976] * 100, abs=1e-4)  # (2 * 2.5610 - 2 * 0.3659) / 4
    assert advantages.mean() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("exponent", "probability"),
    [(0.0, [1 / 3, 1 / 3, 1 / 3]), (1.0, [1 / 4, 1 / 4, 1 / 2]), (2.0, [1 / 6, 1 / 6, 2 / 3])],
)
def test_exponent(exponent: float, probability: list[float]) -> None:
    rng = np.random.default_rng(6)
    advantages = np.array([[1.0, -1.0, 0.0, 2.0]])
    draws = [drawn_of(advantages, "absolute_advantage", rng, fraction=0.25, exponent=exponent) for _ in range(4000)]
    counts = np.sum([draw.drawn_E for draw in draws], axis=0)
    assert counts[2] == 0
    assert fits(counts[[0, 1, 3]].tolist(), probability)


def test_scope_of_the_group_draws_from_each_group() -> None:
    advantages = np.array([[9.0, -9.0, 9.0, -9.0], [0.1, -0.1, 0.1, -0.1], [0.0, 0.0, 0.0, 0.0]])
    for seed in range(50):
        rng = np.random.default_rng(seed)
        draw = drawn_of(advantages, "absolute_advantage", rng, fraction=0.5, scope="group")
        assert draw.drawn_E.reshape(3, 4).sum(axis=1).tolist() == [2, 2, 0]
        draw = drawn_of(advantages, "uniform", rng, fraction=0.5, scope="group")
        assert draw.drawn_E.reshape(3, 4).sum(axis=1).tolist() == [2, 2, 0]
        draw = drawn_of(advantages, "absolute_advantage", rng, fraction=1 / 3, scope="update")
        counts = draw.drawn_E.reshape(3, 4).sum(axis=1).tolist()
        assert counts in ([4, 0, 0], [3, 1, 0]), "each large one is all but certain: p = 4 * 9 / 36.4"


def test_inverse_probability_by_hand() -> None:
    """w = 1, 1, 2 and m = 2 of n = 4: m / (n p) = 1, 1, 1/2."""
    advantages = np.array([[1.0, -1.0, 2.0, 0.0]])
    draw = drawn_of(
        advantages, "absolute_advantage", np.random.default_rng(0), fraction=0.5, correction="inverse_probability"
    )
    assert draw.factor_E == pytest.approx(np.array([1.0, 1.0, 0.5, 1.0]))
    plain = drawn_of(advantages, "absolute_advantage", np.random.default_rng(0), fraction=0.5)
    assert plain.factor_E.tolist() == [1.0] * 4


def test_inverse_probability_makes_the_mean_unbiased() -> None:
    advantages = np.array([[3.0, 0.5, -0.2, 0.0], [-1.0, 0.7, 0.4, -0.1]])
    corrected, plain = [], []
    rng = np.random.default_rng(7)
    for _ in range(6000):
        draw = drawn_of(advantages, "absolute_advantage", rng, fraction=0.5, correction="inverse_probability")
        values = advantages.reshape(-1)
        corrected.append(float((values * draw.factor_E)[draw.drawn_E].mean()))
        plain.append(float(values[draw.drawn_E].mean()))
    error = NORMAL_LIMIT * float(np.std(corrected)) / 6000**0.5
    assert np.mean(corrected) == pytest.approx(0.4125, abs=error)  # 3.3 / 8
    assert error < 0.02
    assert np.mean(plain) > 0.6, "uncorrected, large advantages weigh more"


def test_correction_of_uniform_draws_is_nothing() -> None:
    draw = drawn_of(
        np.arange(1.0, 9.0).reshape(2, 4), "uniform", np.random.default_rng(0), fraction=0.5,
        correction="inverse_probability",
    )  # fmt: skip
    assert draw.factor_E == pytest.approx(np.ones(8))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_without_signal_nothing_is_drawn(sampling: EpisodeSampling) -> None:
    for scope in ("update", "group"):
        draw = drawn_of(np.zeros((2, 4)), sampling, np.random.default_rng(0), fraction=0.5, scope=scope)
        assert draw.drawn_E.tolist() == [False] * 8


def test_effective_sample_size() -> None:
    assert effective_sample_size(np.array([1.0, -1.0, 2.0])) == pytest.approx(16 / 6)
    assert effective_sample_size(np.array([0.3, -0.3, 0.3, 0.3, 0.0])) == pytest.approx(4.0)
    assert effective_sample_size(np.array([5.0, 0.0])) == 1.0
    assert effective_sample_size(np.zeros(3)) == 0.0


REWARDS = np.array([[1.0, 0.0, 0.0, 0.0], [0.5] * 4, [3.0, -3.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]])
"""Bessel standard deviations 0.5, 0, 2.449 and 0.577."""


@pytest.mark.parametrize(("fraction", "kept"), [(0.25, {2}), (0.5, {2, 3}), (0.75, {0, 2, 3}), (1.0, {0, 2, 3})])
def test_the_groups_whose_rewards_differ_most(fraction: float, kept: set[int]) -> None:
    draw = drawn_of(
        group_advantages(REWARDS),
        "variance_filter",
        np.random.default_rng(0),
        fraction=fraction,
        reward_E=REWARDS.reshape(-1),
    )
    assert set(np.flatnonzero(draw.drawn_E) // 4) == kept
    assert draw.drawn_E.sum() == 4 * len(kept), "whole groups"
    assert reward_spread(REWARDS) == pytest.approx(np.array([0.5, 0.0, 6.0**0.5, 3.0**-0.5]))


def test_of_groups_that_differ_as_much_the_first_are_kept() -> None:
    rewards = np.array([[1.0, 0.0]] * 4)
    draw = drawn_of(group_advantages(rewards), "variance_filter", np.random.default_rng(0), fraction=0.5)
    assert draw.drawn_E.tolist() == [True] * 4 + [False] * 4


def test_dynamic_takes_every_group_that_differs() -> None:
    draw = drawn_of(group_advantages(REWARDS), "dynamic", np.random.default_rng(0), fraction=0.1)
    assert draw.drawn_E.reshape(4, 4).all(axis=1).tolist() == [True, False, True, True]
    assert draw.factor_E.tolist() == [1.0] * 16


def test_all_takes_every_episode_also_of_a_group_without_signal() -> None:
    advantages = np.array([[1.0, -1.0], [0.0, 0.0]])
    for scope in ("update", "group"):
        draw = drawn_of(advantages, "all", np.random.default_rng(0), scope=scope)
        assert draw.drawn_E.all()
        assert not drawn_of(advantages * 0, "all", np.random.default_rng(0), scope=scope).drawn_E.any()
