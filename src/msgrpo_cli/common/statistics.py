"""What a handful of numbers can tell: intervals, the smallest difference that they can show, the normalised score.

Knows numbers and which of them belong together. Knows nothing about episodes, games or files.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
"""Lower and upper end."""

_Z95 = 1.959963984540054  # 97.5 % point of the standard normal
_POWER = 2.8  # 1.96 + 0.84: 5 % two-sided, 80 % power
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


def bootstrap_interval(
    values: Sequence[float], clusters: Sequence[Hashable], seed: int = 0, resamples: int = 2000
) -> Interval:
    """95 % percentile bootstrap of the mean of `values`; both sequences have shape (N,).

    Values of one cluster are drawn together, since they are not independent: where every cluster is met once this is
    the plain bootstrap. The same arguments give the same interval. Has zero width where all clusters have one mean.
    Raises ValueError for no values, or for another number of clusters.
    """
    if not values or len(values) != len(clusters):
        raise ValueError(f"{len(values)} values in {len(clusters)} clusters: nothing to resample")
    numbers: dict[Hashable, int] = {}
    member_of = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
    totals_c = np.bincount(member_of, weights=np.asarray(values, dtype=np.float64))
    sizes_c = np.bincount(member_of)
    drawn_rc = np.random.default_rng(seed).integers(len(numbers), size=(resamples, len(numbers)))
    means_r = totals_c[drawn_rc].sum(axis=1) / sizes_c[drawn_rc].sum(axis=1)
    low, high = np.quantile(means_r, (0.025, 0.975))
    return float(low), float(high)


def share_interval(successes: Sequence[bool], starts: Sequence[Hashable]) -> Interval:
    """95 % interval of a success rate; `successes` and `starts` have shape (E,), one entry per episode.

    Wilson where all starts are distinct, bootstrap over distinct starts where they repeat. A bootstrap of zero width
    would claim certainty, so Wilson with the number of distinct starts takes its place. A single start repeated is the
    whole game: its episodes are then the trials. Raises ValueError for no episodes.
    """
    distinct = len(set(starts))
    if distinct in (1, len(starts)):
        return wilson_interval(sum(successes), len(successes))
    low, high = bootstrap_interval([float(success) for success in successes], starts)
    if high - low < _SAME:
        return wilson_interval(distinct * sum(successes) / len(successes), distinct)
    return low, high


def mean_interval(values: Sequence[float], starts: Sequence[Hashable]) -> Interval | None:
    """95 % interval of a mean total reward; `values` and `starts` have shape (E,), one entry per episode.

    Bootstrap over distinct starts; total rewards that are all 0 or 1 are a share and get `share_interval`. None where
    the values show no spread: how far others may lie is then unknown. Raises ValueError for no values.
    """
    if all(value in (0.0, 1.0) for value in values):
        return share_interval([value == 1.0 for value in values], starts)
    alone = len(set(starts)) == 1
    low, high = bootstrap_interval(values, range(len(values)) if alone else starts)
    return (low, high) if high - low >= _SAME else None


def smallest_detectable_difference(
    values: Sequence[float], paired: Sequence[float] | None = None, clusters: Sequence[Hashable] | None = None
) -> float | None:
    """The true difference of means that 80 % of such comparisons would show at 5 %, two-sided; in units of `values`.

    With `paired`, the values of another player on the same starts: 2.8 x standard error of the mean difference
    (Bessel). Without: 2.8 sqrt(2 v / n), v the variance of the n values, which is p (1 - p) for successes.
    With `clusters` too, pairs of one cluster are not taken for independent: the error is that of the mean of whole
    clusters (Liang and Zeger 1986), the same where every cluster is met once.
    None for fewer than two values or clusters, and where they (or the pairs) show no spread: then nothing is known.
    Raises ValueError where pairs or clusters are incomplete.
    """
    if paired is not None and len(paired) != len(values):
        raise ValueError(f"{len(values)} values, but {len(paired)} partners")
    n = len(values)
    if n < 2:
        return None
    if paired is None:
        return _POWER * sqrt(2 * float(np.var(values)) / n) or None
    differences = np.subtract(values, paired, dtype=np.float64)
    if clusters is not None:
        return _POWER * _clustered_error(differences, clusters) or None
    return _POWER * float(differences.std(ddof=1)) / sqrt(n) or None


def _clustered_error(values: NDArray[np.float64], clusters: Sequence[Hashable]) -> float:
    """Standard error of the mean of `values`, shape (N,), of which those of one cluster move together."""
    if len(clusters) != len(values):
        raise ValueError(f"{len(values)} values, but {len(clusters)} clusters")
    numbers: dict[Hashable, int] = {}
    member_of = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
    count = len(numbers)
    if count < 2:
        return 0.0
    residuals_c = np.bincount(member_of, weights=values - values.mean())
    return sqrt(count / (count - 1) * float((residuals_c**2).sum())) / len(values)


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
