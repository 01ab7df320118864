"""Advantages of whole groups, as the tests write them down: one row for each group."""

from __future__ import annotations

import numpy as np

from msgrpo_cli.algo.advantage import Scale, normalised


def group_advantages(rewards_GK: np.ndarray, scale: Scale = "group") -> np.ndarray:
    """Shape (G, K), from the total rewards of G groups of K episodes; see `normalised`."""
    group_N = np.repeat(np.arange(len(rewards_GK)), rewards_GK.shape[1])
    return normalised(rewards_GK.reshape(-1), group_N, scale).reshape(rewards_GK.shape)
