"""Group-relative advantages: how good a reward was against others of its pool.

Knows rewards and pools, as float64 arrays. Knows nothing about episodes, games, tokens or models.
Shape suffixes: G groups, K episodes of a group, N values of any kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Scale = Literal["group", "batch", "none"]

_EPSILON = 1e-4  # TRL's, added to the standard deviation
_SPAN = 1e-9


def normalised(value_N: np.ndarray, pool_N: np.ndarray, scale: Scale = "group") -> np.ndarray:
    """(x - mean of its pool) / (std + 1e-4), float64, shape (N,); std with Bessel's correction, as TRL computes it.

    With an episode's total reward as x and its group as pool it is the advantage that MS-GRPO gives to every token of
    every step of the episode (arXiv 2508.10839).

    `group` takes the pool's standard deviation, `batch` that of all values, `none` none (Dr. GRPO). A pool whose
    values span less than 1e-9 max(1, max |x|), and so one of a single value, is 0 exactly: in float32 sixteen rewards
    of 0.93 would otherwise give |A| = 6e-4, and a sampler that weighs by |A| would draw them.
    """
    value_N = np.asarray(value_N, dtype=np.float64)
    result_N = np.zeros(len(value_N))
    whole = value_N.std(ddof=1) + _EPSILON if scale == "batch" and len(value_N) > 1 else 1.0
    for pool in np.unique(pool_N):
        members = pool_N == pool
        values = value_N[members]
        if _equal(values):
            continue
        divisor = values.std(ddof=1) + _EPSILON if scale == "group" else whole
        result_N[members] = (values - values.mean()) / divisor
    return result_N


def equal_rewards(rewards_GK: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Which groups tell nothing because their rewards are equal; booleans, shape (G,). Groups may differ in size."""
    return np.array([_equal(np.asarray(values, dtype=np.float64)) for values in rewards_GK])


def by_group(value_E: np.ndarray, group_E: np.ndarray) -> list[np.ndarray]:
    """The values of each group; groups are numbered from 0 and stand one after the other."""
    return np.split(value_E, np.flatnonzero(np.diff(group_E)) + 1)


def _equal(values: np.ndarray) -> bool:
    return bool(np.ptp(values) < _SPAN * max(1.0, np.abs(values).max()))
