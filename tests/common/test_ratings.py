"""Ratings by hand for two players, their symmetries, and how often their intervals hold the truth."""

from __future__ import annotations

from math import log10, sqrt

import numpy as np
import pytest

from msgrpo_cli.common.ratings import ELO, Result, expected_score, ratings


def by_name(*results: Result, **settings: object) -> dict[str, float]:
    return {one.player: one.rating for one in ratings(results, resamples=0, **settings)}  # type: ignore[arg-type]


def test_two_players_in_closed_form() -> None:
    """Of 30 to 10 the odds are 3: 400 log10 3 points apart, and the standard error of each half that of
    theta_a - theta_b, 1 / sqrt(n p (1 - p)) = 1 / sqrt(30 * 10 / 40). The prior is next to nothing."""
    first, second = ratings([Result("a", "b", 30, 10)], prior=1e-6, resamples=0)
    assert (first.player, second.player, first.games, first.score) == ("a", "b", 40.0, 0.75)
    assert first.rating - second.rating == pytest.approx(400 * log10(3), rel=1e-5)
    assert first.rating == pytest.approx(-second.rating)
    assert first.standard_error == pytest.approx(ELO / sqrt(7.5) / 2, rel=1e-5)
    assert expected_score(first.rating, second.rating) == pytest.approx(0.75)
    assert first.interval is None


def test_two_players_with_the_prior_in_closed_form() -> None:
    """Symmetric, so theta_a = -theta_b = x with 30 - 40 s(2x) + 1/2 - s(x) = 0, s the logistic function."""
    found = by_name(Result("a", "b", 30, 10), prior=1.0)
    x = found["a"] / ELO

    def s(value: float) -> float:
        return float(1 / (1 + np.exp(-value)))

    assert 30 - 40 * s(2 * x) + 0.5 - s(x) == pytest.approx(0.0, abs=1e-9)
    assert 0 < found["a"] < 200 * log10(3)


def test_a_draw_is_half_a_win_for_each() -> None:
    assert by_name(Result("a", "b", 10, 4, draws=6)) == pytest.approx(by_name(Result("a", "b", 13, 7)))
    assert by_name(Result("a", "b", 0, 0, draws=5)) == {"a": 0.0, "b": 0.0}


def test_who_won_everything_has_a_finite_rating() -> None:
    few, many = (by_name(Result("a", "b", games))["a"] for games in (5, 50))
    assert 0 < few < many < 1500


def test_who_never_met_is_rated_through_others() -> None:
    """a beats b as b beats c: 3 to 1 each, so a stands 9 to 1 above c."""
    found = by_name(Result("a", "b", 300, 100), Result("b", "c", 300, 100), prior=1e-6)
    assert found["a"] - found["c"] == pytest.approx(400 * log10(9), rel=1e-3)
    assert sum(found.values()) == pytest.approx(0.0, abs=1e-6)


def test_order_names_and_sides_change_nothing() -> None:
    results = [Result("a", "b", 7, 3), Result("b", "c", 5, 5, 2), Result("a", "c", 6, 1)]
    turned = [Result("c", "a", 1, 6), Result("b", "c", 2, 2, 1), Result("b", "a", 3, 7), Result("c", "b", 3, 3, 1)]
    assert ratings(results, resamples=50) == ratings(turned, resamples=50)
    assert ratings(results, resamples=50) == ratings(results, resamples=50)
    assert ratings(results, resamples=50, key=("other",)) != ratings(results, resamples=50)


def test_the_most_likely_ratings_are_those() -> None:
    """Expected points are the points, but for the prior: then the gradient is zero."""
    wins = {("a", "b"): (7, 3), ("b", "c"): (5, 9), ("a", "c"): (6, 1), ("c", "d"): (2, 2)}
    found = by_name(*(Result(*pair, *told) for pair, told in wins.items()), prior=1e-8)
    for name in "abcd":
        points = sum(told[pair.index(name)] for pair, told in wins.items() if name in pair)
        expected = sum(
            sum(told) * expected_score(found[name], found[pair[1 - pair.index(name)]])
            for pair, told in wins.items()
            if name in pair
        )
        assert expected == pytest.approx(points, abs=1e-5)


@pytest.mark.slow
def test_intervals_and_standard_errors_hold_the_truth() -> None:
    """Four players 100 points apart, 60 games of every pair: simulated 60 times, all four looked at."""
    truth = dict(zip("abcd", (150.0, 50.0, -50.0, -150.0), strict=True))
    rng, inside, near = np.random.default_rng(0), 0, 0
    for number in range(60):
        results = []
        for first, second in ((a, b) for a in truth for b in truth if a < b):
            won = int(rng.binomial(60, expected_score(truth[first], truth[second])))
            results.append(Result(first, second, won, 60 - won))
        for one in ratings(results, resamples=200, key=(number,)):
            assert one.interval is not None
            inside += one.interval[0] <= truth[one.player] <= one.interval[1]
            near += abs(one.rating - truth[one.player]) <= 1.96 * one.standard_error
    assert 0.88 < inside / 240 <= 1.0
    assert 0.90 < near / 240 <= 1.0


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([], "no results"),
        ([Result("a", "a", 1)], "a: a player's games against itself"),
        ([Result("a", "b", -1, 2)], "a against b: -1 wins"),
        ([Result("a", "b", 0)], "at least one game"),
        ([Result("a", "b", 1.5)], "a against b: 1.5 wins"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_result_is_refused(results: list[Result], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ratings(results)


def test_a_prior_must_be_positive() -> None:
    with pytest.raises(ValueError, match="prior=0"):
        ratings([Result("a", "b", 1)], prior=0)
