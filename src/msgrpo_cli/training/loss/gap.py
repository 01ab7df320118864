"""How far the log-probabilities that were sampled are from those that are trained on, and how far is too far.

Knows the bound on that gap. Knows nothing about models, engines, games or files; `gap_cause` looks for the cause.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgrpo_cli.errors import RunError

from ..parallel.ranks import ALONE, Ranks
from .micro_batch import Batch, loss_mask

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

    @classmethod
    def of(cls, batch: Mapping[str, Any], trained: torch.Tensor) -> Far:
        """Of a micro-batch: from the log-probabilities that its tokens were sampled with, shape (N, T)."""
        far = cls()
        far.add((trained - batch["sampling_per_token_logps"]).abs()[loss_mask(batch)])
        return far

    def join(self, other: Far) -> None:
        self.total += other.total
        self.largest = max(self.largest, other.largest)
        self.tokens += other.tokens

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


def checked_gap(
    part: Sequence[Batch],
    trained: Sequence[torch.Tensor],
    bound: GapBound,
    update: int,
    cause: Callable[[Sequence[Batch]], str],
    number: tuple[int, int] = (1, 1),
    ranks: Ranks = ALONE,
    alone: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Far:
    """The gap of those rows of an update that train in one optimizer step, the first of the pair `number` of so many.

    `trained` are the log-probabilities that its micro-batches train from, computed before the update changed a weight.
    Raises RunError where sampling and training disagree by more than the bound, or by no number at all; `cause` is
    asked about the micro-batch that is farthest, on the rank of several `ranks` that has it; all enter `alone`, within
    which one of them may read the model. Where `trained` itself is
    no number the loss is none, which stops the run and says so.
    """
    gaps = [Far.of(batch, logprobs) for batch, logprobs in zip(part, trained, strict=False)]
    finite = all(bool(logprobs.isfinite().all()) for logprobs in trained)
    given = ranks.gather(lambda: (gaps, finite))
    gap = Far()
    for one in (one for of_rank, _ in given for one in of_rank):
        gap.join(one)
    if gap.within(bound) or not all(is_finite for _, is_finite in given):
        return gap
    far = [[(math.isnan(one.mean), one.largest) for one in of_rank] for of_rank, _ in given]
    rank, number_there = max(
        ((r, i) for r, of in enumerate(far) for i in range(len(of))), key=lambda at: far[at[0]][at[1]]
    )
    with alone():
        why = ranks.gather(lambda: cause([part[number_there]]) if rank == ranks.rank else "")[rank]
    of_step = f" of optimizer step {number[0]} of {number[1]}" if number[1] > 1 else ""
    error = RunError(
        f"update {update}: sampling and training disagree about the tokens{of_step}: log-probability gap "
        f"{gap.mean:.2g} on average (engine.mean_logprob_gap {bound.mean:g}), {gap.largest:.2g} at most "
        f"(engine.max_logprob_gap {bound.largest:g}); the weights were not changed. "
        f"Likely cause: {why}"
    )
    raise ranks.blaming(error, rank)
