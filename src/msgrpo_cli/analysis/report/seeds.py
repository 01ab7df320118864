"""What a few seeds can tell: interval, interquartile mean, probability of improvement, and when two may be ranked.

Knows one number for each seed. Knows nothing about runs, games or how results are shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from msgrpo_cli.common.statistics import Interval, bootstrap_interval

RESAMPLES = 2000
_SAME = 1e-9  # ends of an interval closer than this count as equal
_COVERAGE = {2: 0.50, 3: 0.75, 4: 0.80, 5: 0.83, 8: 0.88, 10: 0.89, 20: 0.93}
"""How often such an interval holds the true mean, by number of seeds: simulated, 1500 sets of normal scores each."""


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean of the middle half of `values`, shape (N,): a quarter is cut at both ends, rounded down.

    Agarwal et al. 2021 (arXiv 2108.13264), whose rliable computes it in the same way. With fewer than four values
    nothing is cut. Raises ValueError for no values.
    """
    if not values:
        raise ValueError("no values")
    from scipy.stats import trim_mean

    return float(trim_mean(np.asarray(values, dtype=np.float64), 0.25))


def seed_interval(values: Sequence[float]) -> Interval | None:
    """95 % percentile bootstrap of the mean over seeds (Efron 1979); `values` has shape (N,), one for each seed.

    None for fewer than two, and where all are equal: an interval of zero width would claim certainty.
    """
    if len(values) < 2:
        return None
    low, high = bootstrap_interval(values, resamples=RESAMPLES)
    return (low, high) if high - low >= _SAME else None


def coverage(seeds: int) -> float:
    """Roughly how often `seed_interval` holds the true mean; below 0.95 because few seeds hide the tails."""
    return _COVERAGE[max(known for known in _COVERAGE if known <= max(seeds, 2))]


def probability_of_improvement(first: Sequence[float], second: Sequence[float]) -> tuple[float, Interval | None]:
    """P(X > Y) + P(X = Y) / 2 for a seed of `first`, shape (N,), and one of `second`, shape (M,), and its interval.

    Mann and Whitney's U / (N M), as in Agarwal et al. 2021 (arXiv 2108.13264). 95 % percentile bootstrap over the
    seeds of both, drawn independently. No interval with fewer than two seeds on a side, nor where it would have zero
    width. Raises ValueError for no values.
    """
    if not first or not second:
        raise ValueError("no values")
    from scipy.stats import mannwhitneyu

    n, m = len(first), len(second)
    probability = float(mannwhitneyu(first, second).statistic) / (n * m)
    if min(n, m) < 2:
        return probability, None
    wins_nm = 0.5 * (1 + np.sign(np.subtract.outer(np.asarray(first), np.asarray(second))))
    random = np.random.default_rng(0)
    counts_rn = random.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    counts_rm = random.multinomial(m, np.full(m, 1 / m), size=RESAMPLES)
    low, high = np.quantile(np.einsum("rn,nm,rm->r", counts_rn, wins_nm, counts_rm) / (n * m), (0.025, 0.975))
    return probability, ((float(low), float(high)) if high - low >= _SAME else None)


def overlap(first: Interval, second: Interval) -> bool:
    """Whether two intervals share a point."""
    return first[0] <= second[1] and second[0] <= first[1]


def smallest_p(first: int, second: int) -> float:
    """The smallest two-sided p-value that a rank test of so many seeds can have: that of complete separation."""
    return min(1.0, 2 / math.comb(first + second, first))
