"""Keys and values of beginnings that were read, kept while the weights stay the same.

Knows token ids and caches of transformers that keep all keys and values. Knows nothing about how a reading is planned,
nor when weights change: whoever makes one of these drops it then.

A *block* is what one pass left in a cache: rows of keys and values, each of them one beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from .beginnings import Tokens
from .caches import held
from .common_beginning import CommonBeginning
from .kept_logits import KeptLogits


@dataclass(frozen=True)
class _Block:
    layers: list[tuple[torch.Tensor, torch.Tensor] | None]
    """Keys and values, each of shape (rows, heads, tokens, width); None where a layer takes those of another."""
    mask: torch.Tensor
    """What is not padding, shape (rows, tokens)."""

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(one.numel() * one.element_size() for pair in self.layers if pair is not None for one in pair)


@dataclass
class KeptBeginnings:
    """What `model` read, for as long as its weights stay the same.

    The empty beginning is always there. `fit` brings the memory down to a budget, of which logits have what keys and
    values leave, from then on; before the first time they may take `room`.
    """

    model: PreTrainedModel
    room: int = 0
    common: CommonBeginning | None = None
    """What stands before everything that is kept here, and before all that is asked for."""
    _blocks: dict[int, _Block] = field(default_factory=dict)
    """By a number that only grows; the last used is the last."""
    _places: dict[Tokens, tuple[int, int]] = field(default_factory=dict)
    """Of each beginning its block and row."""
    _made: int = 0

    @cached_property
    def logits(self) -> KeptLogits:
        """What the model says after whole texts."""
        return KeptLogits(self.room)

    @property
    def size(self) -> int:
        """In bytes, logits left out."""
        common = 0 if self.common is None else self.common.size
        return common + sum(block.size for block in self._blocks.values())

    def stand_behind(self, common: CommonBeginning | None) -> None:
        """From here on beginnings are what follows this one; what was kept behind another is dropped."""
        self.common = common
        self._blocks.clear()
        self._places.clear()
        self.logits.clear()

    def longest(self, prompts: Sequence[Tokens]) -> list[int]:
        """For each of these prompts, tokens of its longest kept beginning that is shorter than it."""
        lengths = sorted({len(one) for one in self._places}, reverse=True)
        return [next((n for n in lengths if n < len(one) and one[:n] in self._places), 0) for one in prompts]

    def keep(self, beginnings: Sequence[Tokens], cache: DynamicCache, mask: torch.Tensor) -> None:
        """Keep the rows of `cache`, which are these beginnings; `mask` says what is not padding in them.

        The cache's tensors are held, not copied: a cache of transformers grows by making new ones.
        """
        self._made += 1
        self._blocks[self._made] = _Block([held(layer) for layer in cache.layers], mask)
        self._places |= {one: (self._made, row) for row, one in enumerate(beginnings)}

    def fit(self, budget: int) -> None:
        """Drop what no beginning needs, then the blocks that were not used for longest, down to so many bytes.

        Logits have what these leave. What all begin with goes last, and all that stands behind it with it.
        """
        if self.common is not None:
            budget -= self.common.size
            if budget < 0:
                self.stand_behind(None)
                return
        used = {number for number, _ in self._places.values()}
        sizes = {number: block.size for number, block in self._blocks.items() if number in used}
        while sizes and sum(sizes.values()) > budget:
            del sizes[next(iter(sizes))]
        self._blocks = {number: self._blocks[number] for number in sizes}
        self._places = {one: place for one, place in self._places.items() if place[0] in sizes}
        self.logits.fit(budget - sum(sizes.values()))

    def cache(self, beginnings: Sequence[Tokens]) -> tuple[DynamicCache, torch.Tensor]:
        """A cache with a row for each of these beginnings, and its mask, shape (rows, tokens).

        Rows are padded on the left to the longest.
        """
        places = [self._places[one] if one else (0, 0) for one in beginnings]
        filled, device = DynamicCache(config=self.model.config), self.model.device
        used = sorted({number for number, _ in places if number})
        if not used:
            return filled, torch.zeros((len(beginnings), 0), dtype=torch.long, device=device)
        for number in used:
            self._blocks[number] = self._blocks.pop(number)
        blocks = [self._blocks[number] for number in used]
        width = max(block.mask.shape[1] for block in blocks)
        empty = any(not number for number, _ in places)  # then it is the first row
        firsts, first = {0: 0}, int(empty)
        for number, block in zip(used, blocks, strict=True):
            firsts[number], first = first, first + len(block.mask)
        rows = torch.tensor([firsts[number] + row for number, row in places], device=device)

        def gathered(parts: list[torch.Tensor]) -> torch.Tensor:
            wide = [
                torch.nn.functional.pad(part, (0, 0, width - part.shape[-2], 0)) if part.shape[-2] < width else part
                for part in parts
            ]
            wide = [torch.zeros_like(wide[0][:1]), *wide] if empty else wide
            held = torch.cat(wide) if len(wide) > 1 else wide[0]
            return held.expand(len(rows), *held.shape[1:]) if len(held) == 1 else held[rows]

        for index, layer in enumerate(filled.layers):
            pairs = [pair for block in blocks if (pair := block.layers[index]) is not None]
            if pairs:
                assert isinstance(layer, DynamicLayer)
                layer.update(gathered([keys for keys, _ in pairs]), gathered([values for _, values in pairs]))
        return filled, gathered([block.mask[..., None] for block in blocks])[..., 0]
