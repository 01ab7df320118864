"""What a handful of numbers can tell: intervals, the smallest difference that they can show, the normalised score.

Knows numbers. Knows nothing about episodes, games or files. Of an evaluation the numbers are its episodes'; their
starts are independent draws from one part of the game's starts, and what is asked is how a player fares on that part,
as the game draws from it. So episodes are independent, also where a start is met again, and one model serves intervals,
paired comparisons and resolution; its coverage is simulated in the tests. How a player would fare on starts of other
parts is another question, and no interval answers it where few starts carry much of the weight: one that resamples
whole starts falls far short of its 95 % there, and is too wide for the part itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

Interval = tuple[float, float]
"""Lower and upper end."""

_Z95 = 1.959963984540054  # 97.5 % point of the standard normal
_POWER = 2.8  # 1.96 + 0.84: 5 % two-sided, 80 % power
_FEWEST_PAIRS = 6  # 2 of 2^6 flips are 3 %
_AT_ONCE = 2**16  # numbers that are drawn at once: a core's cache holds them
_SAME = 1e-9  # scores or ends of an interval closer than this count as equal


def wilson_interval(successes: float, n: int) -> Interval:
    """95 % interval of a share, `successes` out of `n` independent trials (Wilson 1927); never of zero width.

    Raises ValueError unless 0 <= successes <= n and n >= 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes out of {n}: no share")
    share, z2 = successes / n, _Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def bootstrap_interval(values: Sequence[float], seed: int = 0, resamples: int = 2000) -> Interval:
    """95 % percentile bootstrap (Efron 1979) of the mean of `values`, shape (N,), which are independent draws.

    The same arguments give the same interval. Has zero width where all values are one. Raises ValueError for no values.
    """
    if not values:
        raise ValueError("no values: nothing to resample")
    rng, value_N = np.random.default_rng(seed), np.asarray(values, dtype=np.float64)
    size = max(1, _AT_ONCE // len(values))
    mean_R = np.concatenate(
        [
            value_N[rng.integers(len(values), size=(min(size, resamples - first), len(values)))].mean(axis=1)
            for first in range(0, resamples, size)
        ]
    )
    low, high = np.quantile(mean_R, (0.025, 0.975))
    return float(low), float(high)


def mean_interval(values: Sequence[float], *, share: bool = False) -> Interval | None:
    """95 % interval of a mean total reward; `values`, shape (E,), one of each episode.

    `share`: of a game that gives 1 for success and else 0, so that Wilson's is the interval. None where the values show
    no spread: how far others may lie is then unknown. Raises ValueError for no values.
    """
    if share and values:
        return wilson_interval(sum(values), len(values))
    low, high = bootstrap_interval(values)
    return (low, high) if high - low >= _SAME else None


def smallest_detectable_difference(values: Sequence[float], paired: Sequence[float] | None = None) -> float | None:
    """The true difference of means that 80 % of such comparisons would show at 5 %, two-sided; in units of `values`.

    With `paired`, the values of another player on the same starts: 2.8 x standard error of the mean difference
    (Bessel). Without: 2.8 sqrt(2 v / n), v the variance of the n values, which is p (1 - p) for successes.
    None for fewer than two values, where they show no spread, and where fewer than six pairs differ: so few can never
    be told from chance at 5 %, whichever way they point, and their spread says too little about others.
    Raises ValueError where pairs are incomplete.
    """
    if paired is not None and len(paired) != len(values):
        raise ValueError(f"{len(values)} values, but {len(paired)} partners")
    n = len(values)
    if n < 2:
        return None
    if paired is None:
        return _POWER * sqrt(2 * float(np.var(values)) / n) or None
    apart = np.subtract(values, paired, dtype=np.float64)
    if np.count_nonzero(np.abs(apart) > _SAME) < _FEWEST_PAIRS:
        return None
    return _POWER * float(apart.std(ddof=1)) / sqrt(n) or None


def normalized_score(
    score: float | None, random: float | None, optimal: float | None
) -> tuple[float | None, str | None]:
    """(score - random) / (optimal - random), not clipped; or None and the reason why there is none."""
    for name, known in (("random", random), ("optimal", optimal)):
        if known is None:
            return None, f"the score of {name} play is unknown"
    if score is None:
        return None, "the score is unknown"
    assert random is not None
    assert optimal is not None
    if abs(optimal - random) < _SAME:
        return None, "random and optimal play score alike"
    return (score - random) / (optimal - random), None
