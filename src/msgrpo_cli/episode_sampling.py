"""Which of the played episodes are trained on: all, a uniform share, or a share drawn by absolute advantage.

Knows advantages and probabilities, as float64 arrays. Knows nothing about games, tokens or models.
Shape suffix: E episodes of the pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

EpisodeSampling = Literal["all", "uniform", "absolute_advantage"]
SamplingScope = Literal["update", "group"]
SamplingCorrection = Literal["none", "inverse_probability"]

_CERTAIN = 1.0 - 1e-12


@dataclass(frozen=True)
class Draw:
    """What was drawn from a pool of episodes."""

    drawn_E: np.ndarray
    """Booleans, shape (E,)."""
    factor_E: np.ndarray
    """What each episode's advantage is multiplied by (1 without correction), shape (E,)."""


def inclusion_probabilities(weights_E: np.ndarray, draws: int) -> np.ndarray:
    """p_e = min(1, c w_e) with c such that the p_e sum to `draws`; shape (E,) [ours: law of the AAW sampler].

    Weights 1, 1, 2 and two draws give 1/2, 1/2, 1. Raises ValueError where fewer than `draws` weights are positive.
    """
    weights_E = np.asarray(weights_E, dtype=np.float64)
    if draws > np.count_nonzero(weights_E > 0):
        raise ValueError(f"{draws} draws from {np.count_nonzero(weights_E > 0)} episodes with positive weight")
    certain_E = np.zeros(len(weights_E), dtype=bool)
    probability_E = np.zeros(len(weights_E))
    while True:
        rest_E = ~certain_E & (weights_E > 0)
        open_draws = draws - int(certain_E.sum())
        probability_E[rest_E] = weights_E[rest_E] * (open_draws / weights_E[rest_E].sum()) if rest_E.any() else 0.0
        now_certain_E = rest_E & (probability_E >= _CERTAIN)
        if not now_certain_E.any():
            break
        certain_E |= now_certain_E
        probability_E[certain_E] = 1.0
    return probability_E


def systematic_sample(probability_E: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw without replacement with the given inclusion probabilities; booleans, shape (E,).

    Systematic sampling over a randomly ordered pool: the cumulative probabilities of the uncertain episodes are cut
    at u, u + 1, u + 2, ... with one uniform u. The probabilities must sum to a whole number.
    """
    drawn_E = probability_E >= _CERTAIN
    open_index = rng.permutation(np.flatnonzero((probability_E > 0) & ~drawn_E))
    offset = rng.random()
    draws = round(float(probability_E[open_index].sum()))
    if draws:
        edges = np.cumsum(probability_E[open_index])
        edges *= draws / edges[-1]
        cuts = np.searchsorted(edges, offset + np.arange(draws), side="right")
        drawn_E[open_index[np.minimum(cuts, len(open_index) - 1)]] = True
    return drawn_E


def draw_episodes(
    advantage_GK: np.ndarray,
    sampling: EpisodeSampling,
    rng: np.random.Generator,
    *,
    fraction: float = 1.0,
    exponent: float = 1.0,
    scope: SamplingScope = "update",
    correction: SamplingCorrection = "none",
) -> Draw:
    """Draw the episodes to train on from groups of shape (G, K); the pools are flattened to E = G K.

    Of a pool of n episodes k = max(1, floor(fraction n + 0.5)) are wanted. `absolute_advantage` [paper: the idea]
    draws m = min(k, number with A != 0) with weights |A|^exponent: it favours large |A| on purpose, pushing rare wins
    up and rare losses down (a group of 16 with 2 wins, a quarter drawn, has mean A +1.1 among the drawn, against 0 in
    the pool); `inverse_probability` undoes that by multiplying A_e by m / (n p_e). A pool without any advantage
    yields nothing under every sampling: there is no signal in it.
    """
    groups, size = advantage_GK.shape
    pools = np.arange(groups * size).reshape((1, -1) if scope == "update" else (groups, size))
    advantage_E = advantage_GK.reshape(-1)
    drawn_E = np.zeros(groups * size, dtype=bool)
    factor_E = np.ones(groups * size)
    for pool in pools:
        signal = np.abs(advantage_E[pool])
        if not signal.any():
            continue
        if sampling == "all":
            drawn_E[pool] = True
            continue
        weights = signal**exponent * (signal > 0) if sampling == "absolute_advantage" else np.ones(len(pool))
        draws = min(max(1, int(fraction * len(pool) + 0.5)), int(np.count_nonzero(weights)))
        probability = inclusion_probabilities(weights, draws)
        drawn_E[pool] = systematic_sample(probability, rng)
        if correction == "inverse_probability":
            possible = probability > 0
            factor_E[pool[possible]] = draws / (len(pool) * probability[possible])
    return Draw(drawn_E, factor_E)


def effective_sample_size(advantage_E: np.ndarray) -> float:
    """(sum w)^2 / sum w^2 with w = |A|: how many equal episodes carry the same signal; 0 without signal."""
    weights_E = np.abs(advantage_E)
    return float(weights_E.sum() ** 2 / np.square(weights_E).sum()) if weights_E.any() else 0.0
