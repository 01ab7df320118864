"""Which beginnings of prompts a model reads once: a plan of passes, from token ids alone.

Knows token ids and how many passes are worth their cost. Knows nothing about models, caches or games.

Prompts of one game begin alike (system text, rules, legend), and those of one group alike for longer (its board). So
the distinct prompts are read level by level: first what all begin with, then what each bundle of them goes on with,
then what is each prompt's own. A pass over a level reads the segments of its nodes side by side, padded on the left to
the longest; every node goes on from the keys and values of the beginning that it continues.

       all prompts          "You cross a lake ... "
       bundles              "... holes at (1, 1) ..."        "... holes at (2, 0) ..."
       prompts              "at (0, 0)"   "at (0, 1)"        "at (0, 0)"  "at (3, 3)"
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Tokens = tuple[int, ...]
_MOST_BUNDLES = 4  # bundles within bundles
_SHARES = (2, 4, 6)  # eighths of the prompts
_AT_ONCE = 1000  # prompts that are compared with their neighbours
_DEEPEST = 64  # nodes within nodes; prompts that each begin with another are cut no deeper
PASS = 512
"""Tokens that a further pass must save: what it costs by itself, in tokens of a small model or on an accelerator."""
KEPT_SAVES = 4
"""How many times as much a pass saves whose beginnings are kept for later decisions."""
_HIDDEN, _LEAST_PASS = 96, 8
_SHORTEST = 64
"""Tokens below which a beginning is not worth it; shorter ones are copied."""
_MOST_BEHIND = 128
"""Tokens behind it, at most: attention to two sets of keys makes its weights, which long answers had better not."""


def a_pass(hidden_size: int, *, on_cpu: bool) -> int:
    """What a further pass over a model costs by itself, in tokens.

    On a CPU a token takes time with the square of the hidden size, and a pass for every operation of a layer. Chosen
    after looking at single runs on one core: 79 to 471 tokens at 96, 19 and 25 at 512, 12 and 15 at 576.
    """
    return min(PASS, max(PASS * _HIDDEN**2 // hidden_size**2, _LEAST_PASS)) if on_cpu else PASS


@dataclass(frozen=True)
class Level:
    """One pass."""

    beginnings: tuple[Tokens, ...]
    """Of each node, what was read before: by an earlier level, or before this plan."""
    segments: tuple[Tokens, ...]
    """What each node adds; never empty but in the last level, for an empty prompt."""
    node_of: tuple[int | None, ...]
    """Of each prompt the node that reads a part of it; None where no part is read."""

    @property
    def width(self) -> int:
        """Tokens of the longest segment."""
        return max(map(len, self.segments))

    @property
    def read(self) -> int:
        """Tokens that the pass reads, padding included."""
        return len(self.segments) * self.width

    @property
    def nodes(self) -> Iterable[tuple[Tokens, Tokens]]:
        """Of each what was read before, and what it adds."""
        return zip(self.beginnings, self.segments, strict=True)

    @property
    def seen(self) -> int:
        """Tokens whose keys and values its nodes have at its end, padding included: a row for each node."""
        return self.read + self.handed

    @property
    def handed(self) -> int:
        """Those of them that its nodes have at its beginning."""
        return len(self.beginnings) * max(map(len, self.beginnings))

    def behind(self, tokens: int) -> Level:
        """The same where so many tokens, which all nodes begin with, are not counted."""
        return Level(tuple(before[tokens:] for before in self.beginnings), self.segments, self.node_of)


def plan(
    prompts: Sequence[Tokens],
    kept: Sequence[int] = (),
    *,
    repeating: Sequence[int] | None = None,
    a_pass: int | None = None,
) -> list[Level]:
    """The levels that read these prompts; nodes of the last level are the prompts, in order.

    `kept`: how many tokens of each were read before, fewer than it has; by default none. Of every prompt that is not
    empty at least one token is read in the last level. `repeating`: how many tokens of each, fewer than it has, are
    known to stand before several others.

    Ways to read them: apart; after what all begin with; after bundles as well, and bundles within these; the same for
    what is `repeating`, and then the rest; and each of these with whatever is much longer than the others shortened in
    passes of its own. Of all whichever reads fewest tokens, padding and `a_pass` for each pass counted (by default
    `PASS`).
    """
    if len(prompts) == 1:
        return _levels(prompts, [kept[0] if kept else 0], [])
    begun = np.array(kept or [0] * len(prompts))
    a_pass = PASS if a_pass is None else a_pass
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    trie = _Trie.of([prompts[number] for number in order], begun[order])
    ways = trie.candidates(a_pass)
    if repeating is not None:
        ways += trie.candidates_by(np.array(repeating)[order], a_pass)
    best = trie.best(ways, a_pass)
    place = np.argsort(order)
    return _levels(prompts, begun.tolist(), [cut[place].tolist() for cut in best])


def distinct_beginnings(prompts: Iterable[Tokens]) -> int:
    """Nodes of the trie of these prompts: the tokens of all of their distinct beginnings."""
    whole = sorted(set(prompts))
    shared = sum(int(_alike(whole[first : first + _AT_ONCE + 1]).sum()) for first in range(0, len(whole), _AT_ONCE))
    return sum(map(len, whole)) - shared


def common_tokens(texts: Sequence[Tokens], known: Tokens = (), more: int = 0) -> Tokens:
    """What all of these texts begin with, shorter than each, where it is worth being read apart; else nothing.

    `known`: an earlier one, which stays as long as it is one of these texts', too. `more`: tokens that will follow.
    """
    first, last = min(texts), max(texts)
    most = min(min(map(len, texts)) - 1, len(known) or len(first))
    alike = next((place for place in range(most) if first[place] != last[place]), most)
    if known and (alike < most or first[:alike] != known[:alike]):
        alike = next((place for place in range(alike) if first[place] != known[place]), alike)
    return first[:alike] if pays(alike, max(map(len, texts)) - alike + more) else ()


def pays(common: int, longest: int) -> bool:
    """Whether a beginning of so many tokens, with at most so many behind it, had better be read apart."""
    return common >= _SHORTEST and longest <= min(common, _MOST_BEHIND)


def common_of(levels: Sequence[Level]) -> int:
    """Tokens of the first level where all others stand behind it, and it had better be read apart; else 0."""
    first, *others = levels
    if not others or len(first.segments) > 1 or first.beginnings[0]:
        return 0
    longest = max(len(before) + len(part) for level in others for before, part in level.nodes)
    return first.width if pays(first.width, longest - first.width) else 0


def _alike(prompts: Sequence[Tokens]) -> np.ndarray:
    """How many tokens neighbours begin with alike; one number fewer than prompts."""
    ids = np.full((len(prompts), max(map(len, prompts), default=0)), -1, dtype=np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = prompt
    same = (ids[1:] == ids[:-1]) & (ids[1:] >= 0)
    return np.asarray(np.logical_and.accumulate(same, axis=1).sum(axis=1))


def _levels(prompts: Sequence[Tokens], start: Sequence[int], cuts: Sequence[Sequence[int]]) -> list[Level]:
    """Levels from `start` that end at these cuts, then at the prompts' ends; equal beginnings are one node."""
    levels: list[Level] = []
    for cut in cuts:
        parts = [
            (prompt[:begin], prompt[begin:end]) if end > begin else None
            for prompt, begin, end in zip(prompts, start, cut, strict=True)
        ]
        nodes = {part: number for number, part in enumerate(dict.fromkeys(filter(None, parts)))}
        if nodes:
            own = tuple(nodes[part] if part else None for part in parts)
            levels.append(Level(tuple(before for before, _ in nodes), tuple(part for _, part in nodes), own))
        start = cut
    ends = [(prompt[:begin], prompt[begin:]) for prompt, begin in zip(prompts, start, strict=True)]
    last = Level(tuple(before for before, _ in ends), tuple(part for _, part in ends), tuple(range(len(ends))))
    return [*levels, last]


Way = list[np.ndarray]
"""Cuts, pass by pass: of each prompt in order how many of its tokens are read after that pass."""


@dataclass(frozen=True)
class _Trie:
    """Prompts in order, so that those which begin alike stand together."""

    length: np.ndarray
    start: np.ndarray
    """Tokens of each that are read before."""
    alike: np.ndarray

    @classmethod
    def of(cls, prompts: Sequence[Tokens], start: np.ndarray) -> _Trie:
        return cls(np.array([len(prompt) for prompt in prompts]), start, _alike(prompts))

    def candidates(self, a_pass: int) -> list[Way]:
        """Ways of which one may read fewest tokens."""
        ways = self.ways(a_pass)
        likely = [self.best(ways, a_pass, padded=padded) for padded in (True, False)]
        return [*likely, *(longer for way in likely for longer in self.shortened(way))]

    def candidates_by(self, end: np.ndarray, a_pass: int) -> list[Way]:
        """The same where each prompt up to its `end` is read before the rest of it."""
        new = np.r_[True, (self.alike < np.maximum(end[1:], end[:-1])) | (end[1:] != end[:-1])]
        few, of = np.flatnonzero(new), np.cumsum(new) - 1
        between = [self.alike[a:b].min() for a, b in pairwise(few)]
        heads = _Trie(end[few], self.start[few], np.minimum(np.array(between, dtype=int), end[few][:-1]))
        return [[*(cut[of] for cut in way), end] for way in heads.candidates(a_pass)]

    def best(self, ways: Sequence[Way], a_pass: int, *, padded: bool = True) -> Way:
        """Whichever reads fewest tokens, each pass counted as `a_pass` and padding where it is `padded`."""
        return min(ways, key=lambda way: self._cost(way, a_pass, padded=padded))

    def _cost(self, way: Way, a_pass: int, *, padded: bool) -> int:
        start, cost = self.start, 0
        for cut in [*way, self.length]:
            adds = cut - start
            new = adds > 0
            if cut is not self.length:  # what is each prompt's own is nobody else's
                new[1:] &= (self.alike < cut[1:]) | (cut[1:] != cut[:-1]) | (start[1:] != start[:-1])
            cost += a_pass + (int(new.sum()) * int(adds.max()) if padded else int(adds[new].sum()))
            start = cut
        return cost

    def ways(self, a_pass: int) -> list[Way]:
        """Apart; after what all begin with; after bundles as well, and after bundles within these."""
        ways: list[Way] = [[]]
        if len(self.length) < 2:
            return ways
        common = min(int(self.length.min()) - 1, int(self.alike.min()))
        first = [np.full_like(self.start, common)] if common > self.start.max() else []
        ways += [first] if first else []
        bundles: Way = []
        floor = first[0] if first else self.start
        while len(bundles) < _MOST_BUNDLES and (further := self._bundles(floor, a_pass)) is not None:
            bundles.append(further)
            floor = further
            ways += [[*bundles]] + ([[*first, *bundles]] if first else [])
        return ways

    def shortened(self, way: Way) -> list[Way]:
        """This way, with what is longer than the others behind it shortened, in one further pass or in several.

        After such a pass no prompt has more left than a certain share of them have now.
        """
        start = way[-1] if way else self.start
        left = np.sort(self.length - start)
        widths = sorted({int(left[len(left) * share // 8]) for share in _SHARES} - {int(left[-1]), 0}, reverse=True)
        cuts = [np.maximum(start, self.length - width) for width in widths]
        return [[*way, *cuts[first : behind + 1]] for first in range(len(cuts)) for behind in range(first, len(cuts))]

    def _bundles(self, floor: np.ndarray, a_pass: int) -> np.ndarray | None:
        """Where to cut each prompt so that the beginnings up to the cuts, each read once, save most.

        None where that is less than a pass costs.

        `floor`: tokens of each that are read already. Neighbours that begin alike are the inner nodes of the trie. n of
        them that begin with d tokens alike save (n - 1) (d - floor); of nested nodes either the outer one is cut at, or
        the best of those within.
        """
        length, alike, read = self.length.tolist(), self.alike.tolist(), floor.tolist()

        def best(first: int, behind: int, depth: int) -> tuple[int, list[tuple[int, int, int]]]:
            """What the prompts from `first` to before `behind` save at most, and the cuts: (first, behind, tokens)."""
            if behind - first < 2 or depth > _DEEPEST:
                return 0, []
            shared = min(alike[first : behind - 1])
            cut = min(shared, min(length[first:behind]) - 1)
            edges = [first, *(place + 1 for place in range(first, behind - 1) if alike[place] == shared), behind]
            within = [best(a, b, depth + 1) for a, b in pairwise(edges)]
            saved, own = sum(one for one, _ in within), (behind - first - 1) * (cut - max(read[first:behind]))
            if own > 0 and own >= saved:
                return own, [(first, behind, cut)]
            return saved, [run for _, runs in within for run in runs]

        saved, runs = best(0, len(length), 0)
        cuts = floor.copy()
        for first, behind, cut in runs:
            cuts[first:behind] = cut
        return cuts if saved > a_pass else None
