"""The games that ship with the program; importing this package registers them with gymnasium.

Knows names and keys. Knows nothing about models or training.
"""

from __future__ import annotations

import gymnasium

from .core import TextMediatedStochasticGame

gymnasium.register("msgrpo/FrozenLake-v0", entry_point="msgrpo_cli.games.frozenlake:FrozenLake")
gymnasium.register("msgrpo/Snake-v0", entry_point="msgrpo_cli.games.snake:Snake")

__all__ = ["TextMediatedStochasticGame"]
