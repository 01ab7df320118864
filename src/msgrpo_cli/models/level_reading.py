"""Reading prompts level by level; the last level's cache has a row for each prompt.

Knows levels of token ids, what a pass over a model costs, and what reads a cache of transformers on. Knows nothing
about how levels are planned, nor what is done with the prompts once they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from transformers import DynamicCache, PreTrainedModel

from .beginnings import Level, a_pass
from .kept_beginnings import KeptBeginnings

Answer = TypeVar("Answer")
Read = Callable[[DynamicCache, torch.Tensor, torch.Tensor, torch.Tensor], Answer]
"""Takes a cache, ids (rows, tokens), the mask of what is in the cache and of these (rows, all), and their positions."""


def read_levels(
    levels: Sequence[Level], kept: KeptBeginnings, read: Read[Answer], pad: int
) -> tuple[DynamicCache, torch.Tensor, Answer | None]:
    """Call `read` for every level with anything to read; what levels before the last read is in `kept` then.

    Returns the cache of the prompts, the mask of what is in it, shape (prompts, tokens), and what the last call
    returned: None where all prompts are empty.
    """
    *before, last = levels
    for level in before:
        cache, mask, _ = _read(level, kept, read, pad)
        texts = [begun + part for begun, part in zip(level.beginnings, level.segments, strict=True)]
        kept.keep(texts, cache, mask)
    return _read(last, kept, read, pad)


def _read(
    level: Level, kept: KeptBeginnings, read: Read[Answer], pad: int
) -> tuple[DynamicCache, torch.Tensor, Answer | None]:
    cache, mask = kept.cache(level.beginnings)
    if not level.width:
        return cache, mask, None
    empty = [level.width - len(one) for one in level.segments]
    ids = [[*[pad] * less, *one] for less, one in zip(empty, level.segments, strict=True)]
    there = torch.arange(level.width, device=mask.device) >= torch.tensor(empty, device=mask.device)[:, None]
    mask = torch.cat([mask, there.long()], dim=1)
    answer = read(cache, torch.tensor(ids, device=mask.device), mask, positions_of(mask)[:, -level.width :])
    return cache, mask, answer


def pass_of(model: PreTrainedModel) -> int:
    """What a further pass over this model costs by itself, in tokens."""
    return a_pass(model.config.get_text_config().hidden_size, on_cpu=model.device.type == "cpu")


def places_in(levels: Sequence[Level]) -> list[list[int]]:
    """Of each prompt where its tokens stand among the tokens of all levels, padding included, one after the other."""
    places: list[list[int]] = [[] for _ in levels[-1].node_of]
    first = 0
    for level in levels:
        ends = [first + (node + 1) * level.width for node in range(len(level.segments))]
        for own, node in zip(places, level.node_of, strict=True):
            if node is not None:
                own.extend(range(ends[node] - len(level.segments[node]), ends[node]))
        first += level.read
    return places


def positions_of(mask: torch.Tensor) -> torch.Tensor:
    """Of each token the number of those before it; shape as `mask`."""
    return (mask.cumsum(-1) - 1).clamp(min=0)
