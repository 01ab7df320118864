"""What ranks with equal weights need of accelerate and torch: figures of their own, and that weights stay equal.

Knows accelerate's gathering and the bits of weights. Knows nothing about rows, losses or games.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from msgrpo_cli.errors import RunError

from .ranks import Ranks


@contextmanager
def own_figures(accelerator: Any, ranks: Ranks) -> Iterator[None]:
    """Within, TRL's figures of a micro-batch are this rank's alone. TRL gathers them from ranks whose rows it takes for
    equally many, and takes means whatever their tokens; ours are summed at the end of an optimizer step."""
    if ranks.alone:
        yield
        return
    accelerator.gather = accelerator.gather_for_metrics = lambda tensor, *_, **__: tensor
    try:
        yield
    finally:
        del accelerator.gather, accelerator.gather_for_metrics


def compare(ranks: Ranks, model: torch.nn.Module, update: int) -> None:
    """Raises RunError where the weights that are trained are not the same on all ranks."""
    digests = ranks.gather(partial(digest, model))
    other = next((rank for rank, found in enumerate(digests) if found != digests[0]), None)
    if other is not None:
        error = RunError(
            f"update {update}: the processes have come to different weights: {ranks.named(other)} has others than "
            f"{ranks.named(0)}; go on with --resume from the last checkpoint"
        )
        raise ranks.blaming(error, other)


def digest(model: torch.nn.Module) -> int:
    """Of all bits of the weights that are trained."""
    trained = [weights.detach() for weights in model.parameters() if weights.requires_grad]
    of_each = [weights.flatten().view(torch.uint8).view(torch.int16).sum(dtype=torch.int64) for weights in trained]
    return int(sum(number * int(bits) for number, bits in enumerate(of_each, start=1)))
