"""Ratings of players from the games that they played against each other, with how sure they are.

Knows counts of wins, draws and losses. Knows nothing about games, episodes or who the players are.

The model is Bradley's and Terry's (Biometrika 39, 1952): a beats b with probability s_a / (s_a + s_b), s = exp(theta).
A draw counts as half a win for each. Of two players of whom one won everything the likelihood has no maximum, so every
player is also given `prior` games, half of them won, against a player of theta 0 who is not listed: a prior on theta,
ours, that keeps the likelihood strictly concave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from .seeding import Key, generator
from .statistics import Interval

ELO = 400 / log(10)
"""Elo's points in a unit of theta: 400 points are odds of ten to one."""
PRIOR = 1.0
_STEPS, _NEAR = 200, 1e-10
_QUANTILES = (0.025, 0.975)


@dataclass(frozen=True)
class Result:
    """What two players did against each other; any number of these may name the same two."""

    first: str
    second: str
    wins: int
    """Of the first."""
    losses: int = 0
    draws: int = 0


@dataclass(frozen=True, slots=True)
class Rating:
    """One player's strength, in Elo's points; the mean over the players is 0."""

    player: str
    rating: float
    standard_error: float
    """By the curvature of the likelihood with its prior, around the mean of all players."""
    interval: Interval | None
    """95 %, by resampling games; None where none were resampled."""
    games: int
    score: float
    """Share of the points: a win is 1, a draw 1/2."""


def ratings(
    results: Sequence[Result], *, prior: float = PRIOR, resamples: int = 1000, key: Key = ("ratings",)
) -> list[Rating]:
    """The most likely ratings, the strongest first; equal ones by name.

    Games are independent; the interval resamples each pair's games (Efron's bootstrap), drawn from `key`: the same
    results give the same intervals, in whatever order they come. A pair that always ended alike shows no spread, so
    where all of a player's do the standard error tells more. Raises ValueError for what are no counts, a player against
    itself, no results, and a prior that is not positive.
    """
    if not results:
        raise ValueError("no results: nothing to rate")
    if not prior > 0 or not np.isfinite(prior):
        raise ValueError(f"prior={prior}: must be positive, or who won everything has no rating")
    players = sorted({name for result in results for name in (result.first, result.second)})
    counts_pkk = _counts(results, {name: number for number, name in enumerate(players)})
    wins_kk = counts_pkk[0] + 0.5 * counts_pkk[1]
    theta_k, covariance_kk = _most_likely(wins_kk, prior)
    intervals: list[Interval | None] = [None] * len(players)
    if resamples:
        rng = generator((*key, "resampled"))
        drawn_rk = np.stack([_most_likely(_resampled(counts_pkk, rng), prior)[0] for _ in range(resamples)])
        low_k, high_k = np.quantile(drawn_rk, _QUANTILES, axis=0) * ELO
        intervals = [(float(low), float(high)) for low, high in zip(low_k, high_k, strict=True)]
    points_k, games_k = wins_kk.sum(1), (wins_kk + wins_kk.T).sum(1)
    found = [
        Rating(
            player=name,
            rating=float(theta_k[number]) * ELO,
            standard_error=float(np.sqrt(covariance_kk[number, number])) * ELO,
            interval=intervals[number],
            games=int(games_k[number]),
            score=float(points_k[number] / games_k[number]),
        )
        for number, name in enumerate(players)
    ]
    return sorted(found, key=lambda one: (-one.rating, one.player))


def expected_score(rating: float, other: float) -> float:
    """The share of the points that a player of one rating gets against one of another."""
    return float(1 / (1 + np.exp((other - rating) / ELO)))


def _counts(results: Sequence[Result], place: dict[str, int]) -> np.ndarray:
    """Wins of the row against the column, and draws, shape (2, players, players). Each draw stands on both sides."""
    counts = np.zeros((2, len(place), len(place)))
    for one in results:
        told = (one.wins, one.draws, one.losses)
        if one.first == one.second:
            raise ValueError(f"{one.first}: a player's games against itself tell nothing; leave them out")
        if not all(float(count).is_integer() and count >= 0 for count in told) or sum(told) == 0:
            raise ValueError(
                f"{one.first} against {one.second}: {one.wins} wins, {one.draws} draws and {one.losses} losses; "
                "give whole counts of at least one game"
            )
        first, second = place[one.first], place[one.second]
        counts[0, first, second] += one.wins
        counts[0, second, first] += one.losses
        counts[1, first, second] += one.draws
        counts[1, second, first] += one.draws
    return counts


def _resampled(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many games of every pair, with its shares of wins, draws and losses; points of the row, (players, players)."""
    points = np.zeros(counts.shape[1:])
    for first, second in zip(*np.triu_indices(len(points), 1), strict=True):
        told = np.array([counts[0, first, second], counts[1, first, second], counts[0, second, first]])
        if (games := told.sum()) > 0:
            won, drew, lost = rng.multinomial(int(games), told / games)
            points[first, second], points[second, first] = won + drew / 2, lost + drew / 2
    return points


def _most_likely(wins: np.ndarray, prior: float) -> tuple[np.ndarray, np.ndarray]:
    """Ratings theta, shape (players,), and their covariance, both around the mean of the players; by Newton's steps.

    With the prior the log-likelihood is strictly concave, and steps that overshoot are halved.
    """
    games, count = wins + wins.T, len(wins)
    theta = np.zeros(count)
    for _ in range(_STEPS):
        gradient, curvature = _slope(theta, wins, games, prior)
        step = np.linalg.solve(curvature, gradient)
        while _likelihood(theta + step, wins, prior) < _likelihood(theta, wins, prior) and np.abs(step).max() > _NEAR:
            step = step / 2
        theta = theta + step
        if np.abs(step).max() <= _NEAR:
            break
    centre = np.eye(count) - 1 / count
    curvature = _slope(theta, wins, games, prior)[1]
    return centre @ theta, centre @ np.linalg.inv(curvature) @ centre


def _slope(theta: np.ndarray, wins: np.ndarray, games: np.ndarray, prior: float) -> tuple[np.ndarray, np.ndarray]:
    chance = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
    alone = 1 / (1 + np.exp(-theta))
    gradient = (wins - games * chance).sum(1) + prior * (0.5 - alone)
    weight = games * chance * (1 - chance)
    curvature = np.diag(weight.sum(1) + prior * alone * (1 - alone)) - weight
    return gradient, curvature


def _likelihood(theta: np.ndarray, wins: np.ndarray, prior: float) -> float:
    told = -(wins * np.logaddexp(0.0, theta[None, :] - theta[:, None])).sum()
    return float(told - prior / 2 * (np.logaddexp(0.0, -theta) + np.logaddexp(0.0, theta)).sum())
