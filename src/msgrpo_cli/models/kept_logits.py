"""What a model says after texts that it has read, kept while the weights stay the same.

Knows token ids and logits. Knows nothing about how texts are read, nor when weights change: whoever makes one of these
drops it then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from .beginnings import Tokens


@dataclass
class KeptLogits:
    """Logits of the token after each of some texts, in at most `room` bytes: the oldest make way."""

    room: int
    _blocks: dict[int, torch.Tensor] = field(default_factory=dict)
    """By a number that only grows, each of shape (rows, vocabulary)."""
    _places: dict[Tokens, tuple[int, int]] = field(default_factory=dict)
    """Of each text its block and row."""
    _made: int = 0

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(map(_size, self._blocks.values()))

    def __contains__(self, text: Tokens) -> bool:
        return text in self._places

    def keep(self, texts: Sequence[Tokens], logits: torch.Tensor) -> None:
        """Keep these rows, shape (texts, vocabulary); they are held, not copied. None that would not fit alone."""
        if _size(logits) > self.room:
            return
        self._drop(self.room - _size(logits))
        self._made += 1
        self._blocks[self._made] = logits
        self._places |= {text: (self._made, row) for row, text in enumerate(texts)}

    def after(self, texts: Sequence[Tokens]) -> torch.Tensor:
        """The logits after these texts, all of which are kept; shape (texts, vocabulary)."""
        places = [self._places[text] for text in texts]
        return torch.stack([self._blocks[number][row] for number, row in places])

    def fit(self, room: int) -> None:
        """From here on there are so many bytes; drop the oldest, down to them."""
        self.room = max(0, room)
        self._drop(self.room)

    def clear(self) -> None:
        """Drop all."""
        self._drop(0)

    def _drop(self, budget: int) -> None:
        size, before = self.size, len(self._blocks)
        while self._blocks and size > budget:
            size -= _size(self._blocks.pop(next(iter(self._blocks))))
        if len(self._blocks) < before:
            self._places = {text: place for text, place in self._places.items() if place[0] in self._blocks}


def _size(logits: torch.Tensor) -> int:
    return logits.numel() * logits.element_size()
