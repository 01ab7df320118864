"""How far the log-probabilities that were sampled are from those that are trained on, and how far is too far.

Knows the bound on that gap. Knows nothing about models, engines, games or files; `gap_cause` looks for the cause.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgrpo_cli.errors import RunError

if TYPE_CHECKING:
    import torch


@dataclass
class Far:
    """A distance between log-probabilities (nats), over tokens."""

    total: float = 0.0
    largest: float = 0.0
    tokens: int = 0

    @property
    def mean(self) -> float:
        return self.total / self.tokens if self.tokens else 0.0

    def within(self, bound: GapBound) -> bool:
        """False also where it is no number."""
        return self.mean <= bound.mean and self.largest <= bound.largest

    def add(self, distance: torch.Tensor) -> None:
        if not distance.numel():
            return
        self.total += float(distance.sum())
        self.largest = max(self.largest, float(distance.max()))
        self.tokens += distance.numel()


@dataclass(frozen=True)
class GapBound:
    """The largest log-probability gap (nats) that rounding explains."""

    largest: float
    """Of a single token."""
    mean: float
    """Over the tokens of an optimizer step."""


EXACT = GapBound(largest=1e-3, mean=1e-4)
"""One float32 model samples and trains: measured below 1e-5."""
ROUNDED = GapBound(largest=5.0, mean=0.05)
"""Half precision, or kernels of another engine. A single unlikely token may be far off, the mean may not. Measured with
`tiny` in bfloat16 on a CPU: at most 0.03, on average 2e-4; a large model on a GPU was not measured."""


def gap_bound(largest: float | None, mean: float | None, *, exact: bool, truncated: bool) -> GapBound:
    """The bound as given, else by precision; none where sampling cuts the distribution, whose gap is no fault."""
    usual = GapBound(math.inf, math.inf) if truncated else EXACT if exact else ROUNDED
    return GapBound(usual.largest if largest is None else largest, usual.mean if mean is None else mean)


def check_gap(gap: Far, bound: GapBound, update: int, cause: Callable[[], str]) -> None:
    """Raises RunError where sampling and training disagree by more than the bound, or by no number at all."""
    if gap.within(bound):
        return
    raise RunError(
        f"update {update}: sampling and training disagree about the tokens: log-probability gap {gap.mean:.2g} on "
        f"average (engine.mean_logprob_gap {bound.mean:g}), {gap.largest:.2g} at most (engine.max_logprob_gap "
        f"{bound.largest:g}); the weights were not changed. Likely cause: {cause()}"
    )
