"""Who moves Snake's other snakes, where that is neither chance nor the heuristic: a saved checkpoint.

Knows where such players are found, by name, as gymnasium finds games: loading weights is no business of a game's.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import TextMediatedStochasticGame

PLAYERS = "msgrpo_cli.evaluation.opponents"
"""Imported only where a game is given an opponent that it does not know itself."""

Opponent = Callable[[TextMediatedStochasticGame, np.random.Generator], str]
"""Chooses an action for whoever is first in a game, with randomness from the generator."""


def is_opponent(path: str) -> bool:
    """Whether a path is a checkpoint of a run."""
    return bool(_players().is_opponent(path))


def checkpoint_opponent(path: str) -> Opponent:
    """The checkpoint at a path as a player. Raises UsageError where it cannot play."""
    opponent: Opponent = _players().checkpoint_opponent(path)
    return opponent


def _players() -> Any:
    return importlib.import_module(PLAYERS)
