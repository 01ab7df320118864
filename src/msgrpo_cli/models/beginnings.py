"""Which beginnings of prompts a model reads once: a plan of passes, from token ids alone.

Knows token ids and how many passes are worth their cost. Knows nothing about models, caches or games.

Prompts of one game begin alike (system text, rules, legend), and those of one group alike for longer (its board). So
the distinct prompts are read level by level: first what all begin with, then what each bundle of them goes on with,
then what is each prompt's own. A pass over a level reads the segments of its nodes side by side, padded on the left to
the longest; every node goes on from the keys and values of its parent.

       all prompts          "You cross a lake ... "
       bundles              "... holes at (1, 1) ..."        "... holes at (2, 0) ..."
       prompts              "at (0, 0)"   "at (0, 1)"        "at (0, 0)"  "at (3, 3)"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Tokens = Sequence[int]
_DEEPEST = 64  # nodes within nodes; prompts that each begin with another are cut no deeper
PASS = 512
"""Tokens that a further pass must save: what it costs by itself, in tokens."""


@dataclass(frozen=True)
class Level:
    """One pass."""

    parents: tuple[int, ...]
    """Of each node, the number of the node in the level before that it goes on from; empty in the first level."""
    segments: tuple[tuple[int, ...], ...]
    """What each node adds; may be empty but in the last level."""

    @property
    def width(self) -> int:
        """Tokens of the longest segment."""
        return max(map(len, self.segments))

    @property
    def read(self) -> int:
        """Tokens that the pass reads, padding included."""
        return len(self.segments) * self.width


def plan(prompts: Sequence[Tokens]) -> list[Level]:
    """The levels that read these prompts; nodes of the last level are the prompts, in order.

    Of every prompt that is not empty at least one token is read in the last level.

    Of reading them apart, after what all begin with, and after bundles as well, whatever reads fewest tokens, padding
    and `PASS` for each pass counted.
    """
    whole = [tuple(prompt) for prompt in prompts]
    ways = [_levels(whole, [])]
    if len(whole) > 1:
        order = sorted(range(len(whole)), key=whole.__getitem__)
        alike = _common(whole, order)
        common = max(0, min(min(map(len, whole)) - 1, min(alike)))
        ways += [_levels(whole, [[common] * len(whole)])] if common else []
        bundles = _bundles(whole, order, alike, common)
        if any(cut > common for cut in bundles):
            ways.append(_levels(whole, [[common] * len(whole), bundles] if common else [bundles]))
    return min(ways, key=lambda levels: sum(level.read + PASS for level in levels))


def distinct_beginnings(prompts: Sequence[Tokens]) -> int:
    """Nodes of the trie of these prompts: the tokens of all of their distinct beginnings."""
    whole = sorted({tuple(prompt) for prompt in prompts})
    return sum(map(len, whole)) - sum(_common(whole, range(len(whole))))


def _common(whole: Sequence[tuple[int, ...]], order: Sequence[int]) -> list[int]:
    """How many tokens neighbours in `order` begin with alike."""
    ids = np.full((len(order), max(map(len, whole))), -1, dtype=np.int64)
    for row, number in enumerate(order):
        ids[row, : len(whole[number])] = whole[number]
    same = (ids[1:] == ids[:-1]) & (ids[1:] >= 0)
    return [int(count) for count in np.logical_and.accumulate(same, axis=1).sum(axis=1)]


def _levels(whole: Sequence[tuple[int, ...]], cuts: Sequence[Sequence[int]]) -> list[Level]:
    """Levels that end at these cuts, then at the prompts' ends; equal beginnings are one node."""
    levels: list[Level] = []
    node_of, start = [0] * len(whole), [0] * len(whole)
    for cut in cuts:
        nodes: dict[tuple[int, tuple[int, ...]], int] = {}
        found = [
            nodes.setdefault((node, prompt[begin:end]), len(nodes))
            for node, prompt, begin, end in zip(node_of, whole, start, cut, strict=True)
        ]
        levels.append(Level(tuple(node for node, _ in nodes) if levels else (), tuple(part for _, part in nodes)))
        node_of, start = found, list(cut)
    last = tuple(prompt[begin:] for prompt, begin in zip(whole, start, strict=True))
    return [*levels, Level(tuple(node_of) if levels else (), last)]


def _bundles(whole: Sequence[tuple[int, ...]], order: Sequence[int], alike: Sequence[int], common: int) -> list[int]:
    """Where to cut each prompt so that the beginnings up to the cuts, each read once, save most; one for each prompt.

    Neighbours in `order` that begin alike are the inner nodes of the trie. n of them that begin with d tokens alike
    save (n - 1) (d - common); of nested nodes either the outer one is cut at, or the best of those within.
    """
    cuts = [common] * len(whole)

    def best(first: int, behind: int, depth: int) -> tuple[int, list[tuple[int, int, int]]]:
        """What the prompts from `first` to before `behind` save at most, and the cuts: (first, behind, tokens)."""
        if behind - first < 2 or depth > _DEEPEST:
            return 0, []
        shared = min(alike[first : behind - 1])
        cut = min(shared, min(len(whole[number]) for number in order[first:behind]) - 1)
        edges = [first, *(place + 1 for place in range(first, behind - 1) if alike[place] == shared), behind]
        within = [best(a, b, depth + 1) for a, b in pairwise(edges)]
        saved, own = sum(one for one, _ in within), (behind - first - 1) * (cut - common)
        if own > 0 and own >= saved:
            return own, [(first, behind, cut)]
        return saved, [run for _, runs in within for run in runs]

    for first, behind, cut in best(0, len(order), 0)[1]:
        for number in order[first:behind]:
            cuts[number] = cut
    return cuts
