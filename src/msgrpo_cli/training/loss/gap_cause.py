"""Why sampling and training disagree about tokens: the trained side is computed once more, one thing changed at a time.

Knows what can be changed about a pass, and in which words each finding is told. Knows nothing about how rows were
played, nor when a gap is too large: `gap` does.

Two causes that are usual elsewhere cannot occur, so they are not looked for. A template that renders otherwise: nothing
is rendered for training, whose rows are the token ids that the engine was given and gave. Positions that are not told:
`told_positions` tells them wherever a model takes them. A model that takes none and counts padding is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from msgrpo_cli.models.dropout import active_dropout, switched_off

from .gap import Far, GapBound
from .micro_batch import Batch, Read

_SHOWN = 3  # places of dropout that are named
_COLUMNS = 8  # of padding that are added at most
_PADDED = {"prompt": ("prompt_ids",), "completion": ("completion_ids", "sampling_per_token_logps")}
_ALONE = (
    "read every row alone (rollout.max_live_episodes=1, trainer.per_device_train_batch_size=1, "
    "trainer.pad_to_multiple_of=null), or choose another model"
)
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
            return _noise(model, lambda: agrees(shared=shares))
        if shares and agrees(shared=False):
            return "this model computes otherwise where equal prompts are read once: algo.share_prompts=false"
        if not all(_moved(model, batch, read, shared=shares).within(bound) for batch in batches):
            alone = Far()
            for row in (row for batch in batches for row in _each_alone(batch)):
                alone.join(Far.of(row, read(row, shared=False)[0]))
            return (
                "this model takes padding for tokens: it counts positions by itself, or remembers what stands before a "
                f"prompt: {_ALONE if alone.within(bound) else 'choose another model'}"
            )
        before, device = gap(shared=shares), next(model.parameters()).device.type
        for half in (torch.bfloat16, torch.float16):
            with torch.autocast(device, half):
                nearer = gap(shared=shares).mean < _NEARER * before.mean
            if nearer:
                name = str(half).removeprefix("torch.")
                return f"sampling computes in {name}, training does not: choose one (trainer.bf16, model.dtype)"
    return (
        "neither dropout, nor the sharing of prompts, nor padding, nor half precision in sampling alone. What is left: "
        "the engine samples from stale weights or at another temperature, an adapter is applied on one side only, or "
        "sampling cuts the distribution"
    )


def _noise(model: torch.nn.Module, agrees: Callable[[], bool]) -> str:
    """What is told of a model that computes otherwise in training mode: where, and what switches it off, if that does.

    The model stands in evaluation mode, and does so afterwards.
    """
    places = active_dropout(model)
    model.train()
    with switched_off(model):
        helps = bool(places) and agrees()
    model.eval()
    if not helps:
        return (
            "this model computes otherwise in training mode than in sampling, such as a router that draws its experts, "
            "and not by a rate of dropout or jitter that could be switched off: choose another model"
        )
    jitters = ["jitter" in place for place in places]
    what = "jitter noise is" if all(jitters) else "dropout and jitter noise are" if any(jitters) else "dropout is"
    shown = ", ".join(sorted(places, key=lambda place: "jitter" not in place)[:_SHOWN])
    return f"{what} active in training and not in sampling ({shown}): trainer.disable_dropout=true"


def _moved(model: torch.nn.Module, batch: Batch, read: Read, *, shared: bool) -> Far:
    """How far log-probabilities move where every prompt is padded by some columns more, as far as the model reads."""
    width = batch["prompt_ids"].shape[1] + batch["completion_ids"].shape[1]
    room = getattr(getattr(model, "config", None), "max_position_embeddings", None) or width + _COLUMNS
    columns = max(0, min(_COLUMNS, room - width))
    wider = {**batch}
    for name in ("prompt_ids", "prompt_mask"):
        rows = batch[name]
        wider[name] = torch.cat([torch.zeros_like(rows[:, :1]).expand(-1, columns), rows], dim=1)
    as_given = {**batch, "sampling_per_token_logps": read(batch, shared=shared)[0]}
    return Far.of(as_given, read(wider, shared=shared)[0])


def _each_alone(batch: Batch) -> Iterator[Batch]:
    """The rows of a micro-batch, one by one and without padding."""
    for row in range(len(batch["prompt_ids"])):
        one: Batch = {}
        for part, names in _PADDED.items():
            there = batch[f"{part}_mask"][row].bool()
            one |= {name: batch[name][row : row + 1, there] for name in (f"{part}_mask", *names)}
        yield one


@contextmanager
def _still(model: torch.nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
