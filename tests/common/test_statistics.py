"""Intervals, detectable differences and normalised scores, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from msgrpo_cli.common.statistics import (
    bootstrap_interval,
    mean_interval,
    normalized_score,
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


def test_bootstrap_is_near_the_normal_interval() -> None:
    values = [0.0, 1.0] * 100  # standard error 0.5 / sqrt(200) = 0.03536
    assert bootstrap_interval(values) == pytest.approx((0.4307, 0.5693), abs=0.015)


def test_bootstrap_of_four_values() -> None:
    # the mean is Binomial(4, 1/4) / 4, which exceeds 3/4 with probability 0.004
    assert bootstrap_interval([0.0, 0.0, 0.0, 1.0]) == (0.0, 0.75)


def test_bootstrap_repeats_and_depends_on_its_seed() -> None:
    values = [0.1 * k * k for k in range(40)]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)


def test_bootstrap_of_an_evaluation_is_no_loop_over_resamples() -> None:
    bootstrap_interval([0.0, 1.0])  # numpy imports some of itself
    with counting_calls() as calls:
        bootstrap_interval([0.0, 1.0] * 250)
    assert calls.total() < 200, "and not one for each of the 2000"


def test_bootstrap_refuses_what_it_cannot_resample() -> None:
    with pytest.raises(ValueError, match="nothing to resample"):
        bootstrap_interval([])


def test_mean_of_zeros_and_ones_is_a_share() -> None:
    assert mean_interval([1.0] * 500, share=True) == pytest.approx((0.9924, 1.0), abs=5e-5)


def test_mean_without_spread_has_no_interval() -> None:
    assert mean_interval([0.0]) is None, "a game that may give more than 1 need not have done so yet"
    assert mean_interval([-13.0] * 4) is None


def test_detectable_difference_of_unpaired_successes() -> None:
    # p = 0.9, n = 500: 2.8 * sqrt(2 * 0.09 / 500)
    assert smallest_detectable_difference([1.0] * 450 + [0.0] * 50) == pytest.approx(0.053126, abs=1e-6)


def test_detectable_difference_of_pairs() -> None:
    # differences 1 1 1 1 -1 -1 0 0: mean 1/4, variance (6 - 8 / 16) / 7, standard error sqrt(5.5 / 56) = 0.313392
    first, second = [1, 1, 1, 1, 0, 0, 1, 0], [0, 0, 0, 0, 1, 1, 1, 0]
    assert smallest_detectable_difference(first, second) == pytest.approx(0.877496, abs=1e-6)


def test_fewer_than_six_pairs_that_differ_detect_nothing() -> None:
    assert smallest_detectable_difference([1.0] * 5 + [0.0] * 35, [0.0] * 40) is None
    assert smallest_detectable_difference([1.0] * 6 + [0.0] * 34, [0.0] * 40) is not None


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
