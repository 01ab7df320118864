"""Reading prompts level by level into one cache, whose rows end as the prompts.

Knows levels of token ids and a cache of transformers that keeps all keys and values. Knows nothing about how levels are
planned, nor what is done with the prompts once they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from transformers import DynamicCache

from .beginnings import Level

Answer = TypeVar("Answer")
Read = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Answer]
"""Takes ids (rows, tokens), the mask of what is in the cache and of these (rows, all tokens), and their positions."""


def read_levels(
    levels: Sequence[Level], cache: DynamicCache, read: Read[Answer], pad: int, device: torch.device
) -> tuple[torch.Tensor, Answer | None]:
    """Call `read` for every level with anything to read, the cache's rows being its nodes.

    Returns the mask of what is in the cache then, shape (prompts, tokens), and what the last call returned.
    """
    mask, answer = torch.zeros((1, 0), dtype=torch.long, device=device), None
    for level in levels:
        if level.parents:
            rows = torch.tensor(level.parents, device=device)
            mask = mask[rows]
            if mask.shape[1]:
                cache.batch_select_indices(rows)
        else:
            mask = mask.expand(len(level.segments), -1)
        if not level.width:
            continue
        ids = torch.tensor([[*[pad] * (level.width - len(one)), *one] for one in level.segments], device=device)
        there = torch.tensor([[0] * (level.width - len(one)) + [1] * len(one) for one in level.segments], device=device)
        mask = torch.cat([mask, there], dim=1)
        answer = read(ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)[:, -level.width :])
    return mask, answer
