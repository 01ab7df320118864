"""Which of the played episodes are trained on: all, a share that is drawn, or the groups that tell something.

Knows advantages, rewards and probabilities, as float64 arrays. Knows nothing about games, tokens or models.
Shape suffixes: G groups, K episodes of a group, E episodes of the pool, group by group. Of games of several players
each (episode, seat) pair stands for an episode, and groups, of the pairs of one seat, may differ in size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .advantage import by_group, equal_rewards

EpisodeSampling = Literal["all", "uniform", "absolute_advantage", "variance_filter", "dynamic"]
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
    """p_e = min(1, c w_e) with c such that the p_e sum to `draws`; shape (E,).

    [paper: drawn in proportion to the weights; ours: the law that keeps to it without replacement]

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


@dataclass(frozen=True)
class Pool:
    """Episodes that are drawn from together; at least one has an advantage."""

    weight_E: np.ndarray
    """Absolute advantage; where steps differ, the mean of theirs."""
    spread_G: np.ndarray
    """Standard deviation of each group's total rewards, 0 exactly where they are equal."""
    group_E: np.ndarray
    """Number of each episode's group, from 0."""
    draws: int
    """k = max(1, floor(fraction n + 0.5)): how many of its n episodes are wanted."""
    fraction: float
    exponent: float

    def of_groups(self, chosen_G: np.ndarray) -> np.ndarray:
        """Probabilities that take every episode of the chosen groups and no other."""
        return np.asarray(chosen_G.astype(np.float64)[self.group_E])


def take_all(pool: Pool) -> np.ndarray:
    """Every episode."""
    return np.ones(len(pool.weight_E))


def draw_uniformly(pool: Pool) -> np.ndarray:
    """k of n, each with the same probability."""
    return inclusion_probabilities(np.ones(len(pool.weight_E)), pool.draws)


def draw_by_advantage(pool: Pool) -> np.ndarray:
    """m = min(k, number with A != 0), with weights |A|^exponent: MS-GRPO, arXiv 2508.10839 [paper: the idea].

    It favours large |A| on purpose, pushing rare wins up and rare losses down: a group of 16 with 2 wins, a quarter
    drawn, has mean A +1.1 among the drawn, against 0 in the pool.
    """
    weight_E = pool.weight_E**pool.exponent * (pool.weight_E > 0)
    return inclusion_probabilities(weight_E, min(pool.draws, int(np.count_nonzero(weight_E))))


def filter_by_variance(pool: Pool) -> np.ndarray:
    """Every episode of the share `fraction` of groups with the largest reward standard deviation: StarPO-S, arXiv
    2504.20073. At least one group, never one whose rewards are equal; of equal ones the first."""
    groups = len(pool.spread_G)
    wanted = max(1, int(pool.fraction * groups + 0.5))
    chosen_G = np.zeros(groups, dtype=bool)
    chosen_G[np.argsort(-pool.spread_G, kind="stable")[:wanted]] = True
    return pool.of_groups(chosen_G & (pool.spread_G > 0))


def take_varied(pool: Pool) -> np.ndarray:
    """Every episode of every group whose rewards differ: DAPO's dynamic sampling, arXiv 2503.14476, for which groups
    are played until enough differ."""
    return pool.of_groups(pool.spread_G > 0)


@dataclass(frozen=True)
class SamplingKind:
    """One way of choosing episodes."""

    probabilities: Callable[[Pool], np.ndarray]
    """Inclusion probability of each episode, shape (E,); they sum to a whole number."""
    takes_a_share: bool
    """Whether `sample_fraction` means anything to it."""
    whole_groups: bool = False
    """Chooses among groups, so that pools of one group and a correction for drawing mean nothing."""
    replays: bool = False
    """Groups with equal rewards are replaced by further ones, which are played."""


EPISODE_SAMPLINGS: dict[EpisodeSampling, SamplingKind] = {
    "all": SamplingKind(take_all, takes_a_share=False),
    "uniform": SamplingKind(draw_uniformly, takes_a_share=True),
    "absolute_advantage": SamplingKind(draw_by_advantage, takes_a_share=True),
    "variance_filter": SamplingKind(filter_by_variance, takes_a_share=True, whole_groups=True),
    "dynamic": SamplingKind(take_varied, takes_a_share=False, whole_groups=True, replays=True),
}


def reward_spread(reward_GK: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Standard deviation (Bessel) of each group's rewards, 0 exactly where they are equal; shape (G,)."""
    groups = [np.asarray(values, dtype=np.float64) for values in reward_GK]
    equal_G = equal_rewards(groups)
    return np.array([0.0 if equal else values.std(ddof=1) for values, equal in zip(groups, equal_G, strict=True)])


def draw_episodes(
    advantage_E: np.ndarray,
    group_E: np.ndarray,
    sampling: EpisodeSampling,
    rng: np.random.Generator,
    *,
    fraction: float = 1.0,
    exponent: float = 1.0,
    scope: SamplingScope = "update",
    correction: SamplingCorrection = "none",
    reward_E: np.ndarray | None = None,
) -> Draw:
    """Draw the episodes to train on; their groups are numbered from 0 and stand one after the other.

    Of advantages only the absolute value counts; where steps differ it is the mean of theirs. `reward_E` are total
    rewards, by default the advantages. `inverse_probability` undoes the preference of a draw by multiplying A_e by
    m / (n p_e). A pool without any advantage yields nothing under every sampling: there is no signal in it. `all` has
    one pool whatever the scope, so that it takes every episode wherever there is any signal.
    """
    absolute_E = np.abs(advantage_E)
    spread_G = reward_spread(by_group(advantage_E if reward_E is None else reward_E, group_E))
    drawn_E = np.zeros(len(advantage_E), dtype=bool)
    factor_E = np.ones(len(advantage_E))
    pools = (
        [np.arange(len(spread_G))]
        if scope == "update" or sampling == "all"
        else [np.array([group]) for group in range(len(spread_G))]
    )
    for members in pools:
        place_E = np.flatnonzero(np.isin(group_E, members))
        weight_E = absolute_E[place_E]
        if not weight_E.any():
            continue
        wanted = max(1, int(fraction * len(weight_E) + 0.5))
        probability_E = EPISODE_SAMPLINGS[sampling].probabilities(
            Pool(weight_E, spread_G[members], group_E[place_E] - members[0], wanted, fraction, exponent)
        )
        drawn_E[place_E] = systematic_sample(probability_E, rng)
        if correction == "inverse_probability":
            possible_E = probability_E > 0
            drawn = round(float(probability_E.sum()))
            factor_E[place_E[possible_E]] = drawn / (len(weight_E) * probability_E[possible_E])
    return Draw(drawn_E, factor_E)


def effective_sample_size(advantage_E: np.ndarray) -> float:
    """(sum w)^2 / sum w^2 with w = |A|: how many equal episodes carry the same signal; 0 without signal."""
    weights_E = np.abs(advantage_E)
    return float(weights_E.sum() ** 2 / np.square(weights_E).sum()) if weights_E.any() else 0.0
