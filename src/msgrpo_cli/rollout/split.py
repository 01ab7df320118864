"""Train, validation and test parts of a game's initial states, by hash of the state and never by seed.

Knows keys of states and seeds. Knows nothing about models or training, which asks for `train` alone (`collect`). Of a
game whose initial states are few, or lead to one another, nothing is held out, and it says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from itertools import count
from typing import Literal

from msgrpo_cli.common.seeding import Key, seed_from
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.core import TextMediatedStochasticGame
from msgrpo_cli.games.guard import AT_START, blaming

Split = Literal["train", "validation", "test", "any"]

_SALT = b"msgrpo-split-8:"  # chosen once, so that the lakes without holes of 2x2 to 10x10 are all in train
_MOST_REDRAWS = 10_000


def split_of(split_key: bytes) -> Split:
    """The part that an initial state belongs to: one eighth test, one eighth validation, the rest train."""
    part = hashlib.sha256(_SALT + split_key).digest()[0] % 8
    return "test" if part == 0 else "validation" if part == 1 else "train"


def has_split(game: TextMediatedStochasticGame) -> bool:
    """Whether starts can be held out at all: not where they are few, or lead to one another."""
    return game.initial_states == "many"


def start_seeds(game: TextMediatedStochasticGame, split: Split, seeds: Iterator[int]) -> Iterator[int]:
    """Those of `seeds` whose initial state lies in `split`; natural repetition stays.

    In a mixture a rejected start is drawn again until it is one of the same game, so that each keeps its weight also
    where parts differ in size or a game holds none out. Raises UsageError where none of 10 000 seeds in a row does.
    """
    if split == "any":
        yield from seeds
        return
    misses = 0
    wanted: str | None = None  # the game that is drawn again
    for seed in seeds:
        with blaming(type(game).__name__, AT_START, seed):
            game.reset(seed=seed)
            held_out = has_split(game)  # of a mixture it depends on the game that the seed draws
            part = split_of(game.present.split_key()) if held_out else split  # as where it is played alone
        wanted = wanted or game.label
        if part == split and game.label == wanted:
            misses, wanted = 0, None
            yield seed
        elif (misses := misses + 1) > _MOST_REDRAWS:
            raise UsageError(
                f"no initial state of the {split} part in {_MOST_REDRAWS} seeds: the game starts too alike; choose a "
                "larger game, eval.split=any (not held out), or, where it is a key of the game, env.initial_states=few"
            )


def check_parts(game: TextMediatedStochasticGame, parts: Collection[Split]) -> None:
    """Raise UsageError for a part that no start lies in."""
    for part in parts:
        next(start_seeds(game, part, count()))


def keyed_seed(game: TextMediatedStochasticGame, split: Split, key: Key) -> int:
    """The seed of the initial state that belongs to `key`, redrawn until it lies in `split`."""
    return next(start_seeds(game, split, (seed_from((*key, "start", attempt)) for attempt in count())))
