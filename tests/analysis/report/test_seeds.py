"""Statistics over seeds, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from msgrpo_cli.analysis.report.seeds import (
    coverage,
    interquartile_mean,
    overlap,
    probability_of_improvement,
    seed_interval,
    smallest_p,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0], 5.0),
        ([0.0, 1.0, 5.0], 2.0),  # a quarter of three, rounded down, is none
        ([0.0, 1.0, 3.0, 100.0], 2.0),
        ([-9.0, 9.0, 1.0, 2.0, 3.0, 4.0, -9.0, 9.0], 2.5),
    ],
)
def test_interquartile_mean(values: list[float], expected: float) -> None:
    assert interquartile_mean(values) == pytest.approx(expected)


def test_interval_over_three_seeds_spans_them() -> None:
    # all three draws are the lowest with probability 1/27 = 0.037 > 0.025
    assert seed_interval([0.2, 0.9, 0.5]) == pytest.approx((0.2, 0.9))


@pytest.mark.parametrize("values", [[0.7], [0.7, 0.7, 0.7]])
def test_no_interval_without_spread(values: list[float]) -> None:
    assert seed_interval(values) is None


def test_coverage_is_as_simulated() -> None:
    random, inside = np.random.default_rng(1), 0
    for _ in range(400):
        low, high = seed_interval(list(random.normal(size=5))) or (0.0, 0.0)
        inside += low <= 0.0 <= high
    assert inside / 400 == pytest.approx(coverage(5), abs=0.06)
    assert (coverage(2), coverage(6), coverage(100)) == (0.50, 0.83, 0.93)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1.0, 2.0], [0.0], 1.0),
        ([1.0, 2.0], [1.0, 3.0], 0.375),  # 1 = 1 half, 1 < 3, 2 > 1, 2 < 3: 1.5 of 4
        ([0.5], [0.5], 0.5),
    ],
)
def test_probability_of_improvement(first: list[float], second: list[float], expected: float) -> None:
    assert probability_of_improvement(first, second)[0] == pytest.approx(expected)
    assert probability_of_improvement(second, first)[0] == pytest.approx(1 - expected)


def test_interval_of_the_probability() -> None:
    # of two seeds a side, of which one lies above, one below: either side may draw its better or its worse one alone
    probability, interval = probability_of_improvement([1.0, 3.0], [0.0, 2.0])
    assert (probability, interval) == (0.75, (0.0, 1.0))
    assert probability_of_improvement([1.0, 2.0], [0.0, 0.5]) == (1.0, None)  # no width, no claim
    assert probability_of_improvement([1.0, 2.0], [1.5])[1] is None


def test_what_refuses_nothing() -> None:
    for compute in (lambda: interquartile_mean([]), lambda: probability_of_improvement([], [1.0])):
        with pytest.raises(ValueError, match="no values"):
            compute()


def test_overlap() -> None:
    assert overlap((0.0, 1.0), (1.0, 2.0))
    assert overlap((0.0, 3.0), (1.0, 2.0))
    assert not overlap((0.0, 0.9), (1.0, 2.0))


def test_smallest_p() -> None:
    # 2 of C(6, 3) = 20 orders; 2 of 70; one seed against one says nothing
    assert (smallest_p(3, 3), smallest_p(4, 4), smallest_p(1, 1)) == (0.1, 2 / 70, 1.0)
