"""Texts that begin alike as one sequence of tokens: a tree for one pass behind a mask.

Knows token ids. Knows nothing about models, masks as tensors, or losses.
"""

from __future__ import annotations

from collections.abc import Sequence

from .beginnings import Tokens

_SHORTEST, _LONGEST = 512, 4096


def most_tokens(hidden_size: int) -> int:
    """How long a packed sequence may become: attention behind a mask costs the square of its length.

    A layer's weights take about 12 d^2 multiplications a token (d: hidden size), attention over L tokens 2 L d: half as
    much where L = 3 d.
    """
    return min(max(3 * hidden_size, _SHORTEST), _LONGEST)


def pack(texts: Sequence[Tokens], most: int) -> list[Packed]:
    """As few sequences as hold `most` tokens each, or one text where that is longer; none of the texts is empty."""
    found = [Packed()]
    for number in sorted(range(len(texts)), key=texts.__getitem__):
        if found[-1].token_ids and found[-1].length_with(texts[number]) > most:
            found.append(Packed())
        found[-1].add(number, texts[number])
    return [one.closed() for one in found]


class Packed:
    """Texts that begin alike as one sequence: a tree, every node behind its parent.

    What all begin with comes once, then what the first goes on with, then what the next goes on with, and so on.
    """

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.positions: list[int] = []
        self.behind: list[int] = []
        """Of each token the place behind the last that continues it: whoever stands between sees it."""
        self.places: dict[int, list[int]] = {}
        """Of each text, by its number, where its tokens stand."""
        self._path: list[int] = []
        """The places of the last text's tokens."""

    def length_with(self, text: Tokens) -> int:
        """How many tokens the sequence has with this one."""
        return len(self.token_ids) + len(text) - self._alike(text)

    def add(self, number: int, text: Tokens) -> None:
        """The texts come in order, so that those which begin alike stand together."""
        alike = self._alike(text)
        self._close(alike)
        for depth in range(alike, len(text)):
            self._path.append(len(self.token_ids))
            self.token_ids.append(text[depth])
            self.positions.append(depth)
            self.behind.append(0)
        self.places[number] = self._path.copy()

    def closed(self) -> Packed:
        """The same when nothing is added any more."""
        self._close(0)
        return self

    def _alike(self, text: Tokens) -> int:
        places = zip(self._path, text, strict=False)
        return next(
            (depth for depth, (place, token) in enumerate(places) if self.token_ids[place] != token),
            min(len(self._path), len(text)),
        )

    def _close(self, depth: int) -> None:
        for place in self._path[depth:]:
            self.behind[place] = len(self.token_ids)
        del self._path[depth:]
