"""Text games: what is seen, what can be done, what it is worth.

Knows words, rewards and gymnasium; importing the package registers its games. Knows nothing about configs, tokens or
models. May import `common` and `errors`. Does without torch.
"""

from __future__ import annotations

import gymnasium

from msgrpo_cli.games.core import TextMediatedStochasticGame
from msgrpo_cli.games.seats import MultiPlayerGame

gymnasium.register("msgrpo/FrozenLake-v0", entry_point="msgrpo_cli.games.frozenlake:FrozenLake")
gymnasium.register("msgrpo/Blackjack-v0", entry_point="msgrpo_cli.games.blackjack:Blackjack")
gymnasium.register("msgrpo/Mix-v0", entry_point="msgrpo_cli.games.mix:Mix")
gymnasium.register("msgrpo/Snake-v0", entry_point="msgrpo_cli.games.snake.game:Snake")
gymnasium.register("msgrpo/Snakes-v0", entry_point="msgrpo_cli.games.snake.snakes:Snakes")
gymnasium.register("msgrpo/GuessNumber-v0", entry_point="msgrpo_cli.games.guess_number:GuessNumber")
gymnasium.register("msgrpo/BabyAI-v0", entry_point="msgrpo_cli.games.babyai:BabyAI")
gymnasium.register("msgrpo/Minesweeper-v0", entry_point="msgrpo_cli.games.minesweeper:Minesweeper")
gymnasium.register("msgrpo/Sokoban-v0", entry_point="msgrpo_cli.games.sokoban:Sokoban")
gymnasium.register("msgrpo/OpenSpiel-v0", entry_point="msgrpo_cli.games.openspiel:OpenSpielGame")
gymnasium.register("msgrpo/OpenSpielSeats-v0", entry_point="msgrpo_cli.games.openspiel_seats:OpenSpielSeats")
gymnasium.register("msgrpo/TextArena-v0", entry_point="msgrpo_cli.games.textarena:TextArenaGame")
gymnasium.register("msgrpo/TextArenaSeats-v0", entry_point="msgrpo_cli.games.textarena_seats:TextArenaSeats")

__all__ = ["MultiPlayerGame", "TextMediatedStochasticGame"]
