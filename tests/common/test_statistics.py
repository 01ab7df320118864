"""Intervals, detectable differences and normalised scores, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from msgrpo_cli.common.statistics import (
    bootstrap_interval,
    mean_interval,
    normalized_score,
    share_interval,
    smallest_detectable_difference,
    wilson_interval,
)
from support.counted import counting_calls


@pytest.mark.parametrize(
    ("successes", "n", "expected"),
    [
        (0, 10, (0.0, 0.2775)),
        (8, 10, (0.4902, 0.9433)),
        (500, 500, (0.9924, 1.0)),
        (1, 1, (0.2065, 1.0)),
    ],
)
def test_wilson(successes: int, n: int, expected: tuple[float, float]) -> None:
    assert wilson_interval(successes, n) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("n", [1, 7, 308, 500, 9999])
def test_wilson_holds_the_share_at_both_ends(n: int) -> None:
    assert wilson_interval(0, n)[0] == 0.0
    assert wilson_interval(n, n)[1] == 1.0


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_share(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        wilson_interval(successes, n)


def test_bootstrap_of_distinct_starts_is_near_the_normal_interval() -> None:
    values = [0.0, 1.0] * 100  # standard error 0.5 / sqrt(200) = 0.03536
    assert bootstrap_interval(values, range(200)) == pytest.approx((0.4307, 0.5693), abs=0.015)


def test_bootstrap_draws_clusters_whole() -> None:
    values = [0.0, 0.0, 0.0, 1.0]
    # two clusters: means 0, 1/4 and 1 with probability 1/4, 1/2, 1/4
    assert bootstrap_interval(values, "aaab") == (0.0, 1.0)
    # four: the mean is Binomial(4, 1/4) / 4, which exceeds 3/4 with probability 0.004
    assert bootstrap_interval(values, "abcd") == (0.0, 0.75)


def test_bootstrap_weighs_clusters_by_their_size() -> None:
    low, high = bootstrap_interval([1.0] * 30 + [0.0] * 10, [0] * 30 + list(range(1, 11)))
    assert low == 0.0
    assert 0.85 < high < 1.0


def test_bootstrap_repeats_and_depends_on_its_seed() -> None:
    values, starts = [0.1 * k * k for k in range(40)], [k // 2 for k in range(40)]
    assert bootstrap_interval(values, starts) == bootstrap_interval(values, starts)
    assert bootstrap_interval(values, starts) != bootstrap_interval(values, starts, seed=1)


def test_bootstrap_of_an_evaluation_is_no_loop_over_resamples() -> None:
    clusters = [k % 308 for k in range(500)]
    bootstrap_interval([0.0, 1.0], [0, 1])  # numpy imports some of itself
    with counting_calls() as calls:
        bootstrap_interval([0.0, 1.0] * 250, clusters)
    assert calls.total() < 200, "and not one for each of the 2000"


@pytest.mark.parametrize(("values", "clusters"), [([], []), ([1.0], [1, 2])])
def test_bootstrap_refuses_what_it_cannot_resample(values: list[float], clusters: list[int]) -> None:
    with pytest.raises(ValueError, match="nothing to resample"):
        bootstrap_interval(values, clusters)


def test_share_of_distinct_starts_is_wilson() -> None:
    assert share_interval([True] * 8 + [False] * 2, range(10)) == pytest.approx((0.4902, 0.9433), abs=5e-5)


def test_share_of_repeated_starts_is_wider_than_that_of_as_many_distinct_ones() -> None:
    wins = [k % 20 < 10 for k in range(200)]  # each of 20 starts always ends alike
    low, high = share_interval(wins, [k % 20 for k in range(200)])
    assert high - low > 2 * 0.139  # Wilson for 100 of 200: [0.431, 0.569]


def test_certainty_is_never_claimed() -> None:
    # 20 episodes from 10 distinct starts, all won: Wilson with n = 10
    assert share_interval([True] * 20, [k % 10 for k in range(20)]) == pytest.approx((0.7225, 1.0), abs=5e-5)
    # each of 10 starts won every other time: all clusters have mean 1/2
    assert share_interval([True] * 10 + [False] * 10, [k % 10 for k in range(20)]) == pytest.approx(
        (0.2366, 0.7634), abs=5e-5
    )


def test_a_single_start_makes_its_episodes_the_trials() -> None:
    assert share_interval([True] * 8 + [False] * 2, "aaaaaaaaaa") == pytest.approx((0.4902, 0.9433), abs=5e-5)
    low, high = mean_interval([-13.0, -15.0] * 50, [0] * 100) or (0.0, 0.0)
    assert (low, high) == pytest.approx((-14.196, -13.804), abs=0.05)  # 14 -+ 1.96 * 1 / sqrt(100)


def test_mean_of_zeros_and_ones_is_a_share() -> None:
    assert mean_interval([1.0] * 500, range(500)) == pytest.approx((0.9924, 1.0), abs=5e-5)


def test_mean_without_spread_has_no_interval() -> None:
    assert mean_interval([-13.0] * 4, range(4)) is None


def test_detectable_difference_of_unpaired_successes() -> None:
    # p = 0.9, n = 500: 2.8 * sqrt(2 * 0.09 / 500)
    assert smallest_detectable_difference([1.0] * 450 + [0.0] * 50) == pytest.approx(0.053126, abs=1e-6)


def test_detectable_difference_of_pairs() -> None:
    # differences 1, 0, 0, -1: variance 2/3, standard error sqrt(1/6) = 0.408248
    assert smallest_detectable_difference([1, 1, 0, 0], [0, 1, 0, 1]) == pytest.approx(1.143095, abs=1e-6)


def test_detectable_difference_needs_two_values_and_whole_pairs() -> None:
    assert smallest_detectable_difference([1.0]) is None
    assert smallest_detectable_difference([1.0, 1.0]) is None
    assert smallest_detectable_difference([1.0, 0.0], [1.0, 0.0]) is None
    with pytest.raises(ValueError, match="partners"):
        smallest_detectable_difference([1.0, 0.0], [1.0])


@pytest.mark.parametrize(
    ("score", "random", "optimal", "expected"),
    [(0.5, 0.0, 2.0, 0.25), (-1.0, 0.0, 2.0, -0.5), (5.0, 1.0, 3.0, 2.0)],
)
def test_normalized_score_is_not_clipped(score: float, random: float, optimal: float, expected: float) -> None:
    assert normalized_score(score, random, optimal) == (expected, None)


@pytest.mark.parametrize(
    ("score", "random", "optimal", "reason"),
    [
        (0.5, None, 1.0, "the score of random play is unknown"),
        (0.5, 0.0, None, "the score of optimal play is unknown"),
        (None, 0.0, 1.0, "the score is unknown"),
        (0.5, 1.0, 1.0 + 1e-10, "random and optimal play score alike"),
    ],
)
def test_no_normalized_score_has_a_reason(
    score: float | None, random: float | None, optimal: float | None, reason: str
) -> None:
    assert normalized_score(score, random, optimal) == (None, reason)
