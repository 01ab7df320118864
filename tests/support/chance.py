"""Tests of chance: how far counts are from what was expected, against typed-in limits (one in a thousand)."""

from __future__ import annotations

from collections.abc import Sequence

CHI_SQUARE_LIMIT = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47, 5: 20.52, 15: 37.70}
"""The 99.9 % quantile of the chi-square distribution, by degrees of freedom."""
KOLMOGOROV_LIMIT = 1.95
"""The 99.9 % quantile of sqrt(n) times the largest gap between two distribution functions."""
NORMAL_LIMIT = 3.29
"""Half the width of a 99.9 % interval in standard errors."""


def fits(counts: Sequence[float], probabilities: Sequence[float]) -> bool:
    """Whether counts agree with probabilities: chi-square test of goodness of fit."""
    total = sum(counts)
    expected = [total * probability for probability in probabilities]
    misfit = sum((count - wanted) ** 2 / wanted for count, wanted in zip(counts, expected, strict=True))
    return misfit < CHI_SQUARE_LIMIT[len(counts) - 1]
