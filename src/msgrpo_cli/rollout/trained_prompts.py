"""What a run has trained on, as a compact set, and how much of an evaluation reads the same.

Knows episodes and what their decisions showed. Knows nothing about tokens, files or how a run is trained.
A prompt is what changes from decision to decision: the state as it was described, and before it the states and actions
of `prompt.history`. The system text is no part of it, for other words around it make no state new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from msgrpo_cli.episode import Episode

_BYTES = 8  # of a hash: among a million prompts two fall together with a chance of 3e-8


class Overlap(NamedTuple):
    """Shares in [0, 1] of an evaluation that read as something that was trained on."""

    starts: float
    """Of its starts; those that read alike count as one."""
    decisions: float
    """Of all its decisions."""


class TrainedPrompts:
    """A set of prompts that only grows. `history`: how many earlier states a prompt shows."""

    def __init__(self, history: int, hashes: Iterable[int] = ()) -> None:
        self.history = history
        self._kept = np.unique(np.fromiter(hashes, dtype=np.uint64))
        self._new: set[int] = set()

    def add(self, episodes: Iterable[Episode]) -> None:
        """Every decision of these episodes was trained on."""
        for episode in episodes:
            self._new.update(_hashes(episode, self.history))

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """All of them, ascending, shape (number of distinct prompts,)."""
        if self._new:
            self._kept = np.union1d(self._kept, np.fromiter(self._new, dtype=np.uint64))
            self._new.clear()
        return self._kept

    def overlap(self, episodes: Sequence[Episode]) -> Overlap:
        """How much of these episodes was trained on. Raises ValueError where there are none."""
        if not episodes:
            raise ValueError("no episodes: no overlap")
        hashes = [list(_hashes(episode, self.history)) for episode in episodes]
        starts = {of_episode[0] for of_episode in hashes}
        return Overlap(self._share(starts), self._share([one for of_episode in hashes for one in of_episode]))

    def _share(self, hashes: Iterable[int]) -> float:
        return float(np.isin(np.fromiter(hashes, dtype=np.uint64), self.hashes).mean())


def _hashes(episode: Episode, history: int) -> Iterator[int]:
    """Of each decision's prompt."""
    for number, step in enumerate(episode.steps):
        past = episode.steps[max(0, number - history) : number]
        shown = [*(text for earlier in past for text in (earlier.observation, str(earlier.action))), step.observation]
        digest = hashlib.blake2b(repr(shown).encode(), digest_size=_BYTES).digest()
        yield int.from_bytes(digest, "little")
