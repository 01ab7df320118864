"""The games that ship with the program; importing this package registers them with gymnasium.

Knows names and keys. Knows nothing about models or training.
"""

from __future__ import annotations

import gymnasium

from msgrpo_cli.games.core import TextMediatedStochasticGame

gymnasium.register("msgrpo/FrozenLake-v0", entry_point="msgrpo_cli.games.frozenlake:FrozenLake")
gymnasium.register("msgrpo/Blackjack-v0", entry_point="msgrpo_cli.games.blackjack:Blackjack")
gymnasium.register("msgrpo/Mix-v0", entry_point="msgrpo_cli.games.mix:Mix")
gymnasium.register("msgrpo/Snake-v0", entry_point="msgrpo_cli.games.snake.game:Snake")
gymnasium.register("msgrpo/GuessNumber-v0", entry_point="msgrpo_cli.games.guess_number:GuessNumber")
gymnasium.register("msgrpo/Minesweeper-v0", entry_point="msgrpo_cli.games.minesweeper:Minesweeper")
gymnasium.register("msgrpo/Sokoban-v0", entry_point="msgrpo_cli.games.sokoban:Sokoban")
gymnasium.register("msgrpo/TextArena-v0", entry_point="msgrpo_cli.games.textarena:TextArenaGame")

__all__ = ["TextMediatedStochasticGame"]
