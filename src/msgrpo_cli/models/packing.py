"""Prompts that begin alike, and their answers, as one sequence of tokens: a tree for one pass behind a mask.

Knows token ids. Knows nothing about models, masks as tensors, or losses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .beginnings import Tokens

NOT_PREDICTED = -100
"""The label that a language-model head passes over."""
_SHORTEST, _LONGEST = 512, 4096


def most_tokens(hidden_size: int) -> int:
    """How long a packed sequence may become: attention behind a mask costs the square of its length.

    A layer's weights take about 12 d^2 multiplications a token (d: hidden size), attention over L tokens 2 L d: half as
    much where L = 3 d.
    """
    return min(max(3 * hidden_size, _SHORTEST), _LONGEST)


def pack(prompts: Sequence[Tokens], answers_of: Sequence[Mapping[int, Tokens]], most: int) -> list[Packed]:
    """As few sequences as hold `most` tokens each, or one prompt with its answers where those are more.

    `answers_of`: of each prompt its answers by number; none of them is empty.
    """
    found = [Packed()]
    for of in sorted(range(len(prompts)), key=prompts.__getitem__):
        if found[-1].token_ids and found[-1].length_with(prompts[of], answers_of[of]) > most:
            found.append(Packed())
        found[-1].add(prompts[of], answers_of[of])
    return [one.closed() for one in found]


class Packed:
    """Prompts that begin alike, each without its last token, as one sequence: a tree, every node behind its parent.

    What all begin with comes once, then what the first goes on with, its answers, what the next goes on with, and so
    on. Of an answer's tokens the last is not read; before them stands the prompt's last token, once for every answer.
    """

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.positions: list[int] = []
        self.labels: list[int] = []
        self.behind: list[int] = []
        """Of each token the place behind the last that continues it: whoever stands between sees it."""
        self.first: dict[int, int] = {}
        """Of each answer, by its number, where its first token is predicted."""
        self._path: list[int] = []
        """The places of the last prompt's tokens."""

    def length_with(self, prompt: Tokens, answers: Mapping[int, Tokens]) -> int:
        """How many tokens the sequence has with these."""
        return len(self.token_ids) + len(prompt) - 1 - self._alike(prompt) + sum(map(len, answers.values()))

    def add(self, prompt: Tokens, answers: Mapping[int, Tokens]) -> None:
        """The prompts come in order, so that those which begin alike stand together."""
        alike = self._alike(prompt)
        self._close(alike)
        for depth in range(alike, len(prompt) - 1):
            self._path.append(len(self.token_ids))
            self._append(prompt[depth], depth, NOT_PREDICTED)
        for number, answer in answers.items():
            self.first[number] = len(self.token_ids)
            behind = len(self.token_ids) + len(answer)
            for step, (token, label) in enumerate(zip((prompt[-1], *answer), answer, strict=False)):
                self._append(token, len(prompt) - 1 + step, label, behind)

    def closed(self) -> Packed:
        """The same when nothing is added any more."""
        self._close(0)
        return self

    def _alike(self, prompt: Tokens) -> int:
        read = prompt[:-1]
        places = zip(self._path, read, strict=False)
        return next(
            (depth for depth, (place, token) in enumerate(places) if self.token_ids[place] != token),
            min(len(self._path), len(read)),
        )

    def _close(self, depth: int) -> None:
        for place in self._path[depth:]:
            self.behind[place] = len(self.token_ids)
        del self._path[depth:]

    def _append(self, token: int, position: int, label: int, behind: int = 0) -> None:
        self.token_ids.append(token)
        self.positions.append(position)
        self.labels.append(label)
        self.behind.append(behind)
