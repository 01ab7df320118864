"""TODO docstring of games.snake.opponents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from msgrpo_cli.runs import checkpoint

from ..core import TextMediatedStochasticGame

Opponent = Callable[[TextMediatedStochasticGame, np.random.Generator], str]
"""Chooses an action for whoever is first in a game, with randomness from the generator."""


def is_opponent(path: str) -> bool:
    """Whether a path is a checkpoint of a run."""
    return checkpoint.is_checkpoint(Path(path))
