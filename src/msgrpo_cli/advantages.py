"""Group-relative advantages: how good an episode was against others from the same initial state.

Knows rewards and groups, as float64 arrays. Knows nothing about games, tokens or models.
Shape suffixes: G groups, K episodes of a group.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Scale = Literal["group", "batch", "none"]

_EPSILON = 1e-4  # TRL's, added to the standard deviation
_SPAN = 1e-9


def group_advantages(rewards_GK: np.ndarray, scale: Scale = "group") -> np.ndarray:
    """(R - mean of group) / (std + 1e-4), float64, shape (G, K); std with Bessel's correction, as TRL computes it.

    `group` takes the group's standard deviation, `batch` that of all rewards, `none` none (Dr. GRPO). A group whose
    rewards span less than 1e-9 max(1, max |R|) has advantage 0 exactly: in float32 sixteen rewards of 0.93 would
    otherwise give |A| = 6e-4, and a sampler that weighs by |A| would draw them. MS-GRPO gives this one number to
    every token of every step of the episode (arXiv 2508.10839).
    """
    rewards_GK = np.asarray(rewards_GK, dtype=np.float64)
    if rewards_GK.ndim != 2 or rewards_GK.shape[1] < 2:
        raise ValueError(f"rewards must have shape (groups, at least 2 episodes), not {rewards_GK.shape}")
    centred_GK = rewards_GK - rewards_GK.mean(axis=1, keepdims=True)
    if scale == "group":
        centred_GK = centred_GK / (rewards_GK.std(axis=1, ddof=1, keepdims=True) + _EPSILON)
    elif scale == "batch":
        centred_GK = centred_GK / (rewards_GK.std(ddof=1) + _EPSILON)
    return np.where(equal_rewards(rewards_GK)[:, None], 0.0, centred_GK)


def equal_rewards(rewards_GK: np.ndarray) -> np.ndarray:
    """Which groups tell nothing because their rewards are equal; booleans, shape (G,)."""
    span_G = rewards_GK.max(axis=1) - rewards_GK.min(axis=1)
    return np.asarray(span_G < _SPAN * np.maximum(1.0, np.abs(rewards_GK).max(axis=1)))
