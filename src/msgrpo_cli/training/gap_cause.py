"""Why sampling and training disagree about tokens: the trained side is computed once more, one thing changed at a time.

Knows what can be changed about a pass, and in which words each finding is told. Knows nothing about how rows were
played, nor when a gap is too large: `gap` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from msgrpo_cli.models.dropout import active_dropout

from .gap import Far, GapBound
from .micro_batch import Batch, Read

_SHOWN = 3  # places of dropout that are named
_NEARER = 0.5
"""Of the mean gap is left at most where sampling really was in that precision; hardly anything changes where not."""


def cause(model: torch.nn.Module, batches: Sequence[Batch], *, read: Read, bound: GapBound, shares: bool) -> str:
    """One sentence: the first change with which the gap of these rows lies within its bound, or that none did."""

    def gap(*, shared: bool) -> Far:
        far = Far()
        for batch in batches:
            far.join(Far.of(batch, read(batch, shared=shared)[0]))
        return far

    def agrees(*, shared: bool) -> bool:
        return gap(shared=shared).within(bound)

    if agrees(shared=shares):
        return "none in the rows that were looked at: a rare token, or weights that differ now and then"
    with _still(model):
        if agrees(shared=shares):
            places = ", ".join(active_dropout(model)[:_SHOWN]) or "noise that the model makes while it is trained"
            return f"dropout is active in training and not in sampling ({places}): trainer.disable_dropout=true"
        if shares and agrees(shared=False):
            return "this model computes otherwise where equal prompts are read once: algo.share_prompts=false"
        before, device = gap(shared=shares), next(model.parameters()).device.type
        for half in (torch.bfloat16, torch.float16):
            with torch.autocast(device, half):
                nearer = gap(shared=shares).mean < _NEARER * before.mean
            if nearer:
                name = str(half).removeprefix("torch.")
                return f"sampling computes in {name}, training does not: choose one (trainer.bf16, model.dtype)"
    return (
        "neither dropout, nor the sharing of prompts, nor half precision in sampling alone. What is left: the "
        "engine samples from stale weights or at another temperature, an adapter is applied on one side only, or "
        "sampling cuts the distribution"
    )


@contextmanager
def _still(model: torch.nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
