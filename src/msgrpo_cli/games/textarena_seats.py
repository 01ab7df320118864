"""A game of TextArena with all its players: `env=textarena_seats env.game=TicTacToe-v0`, for self-play.

Knows how its table becomes a game of several players. Knows nothing about single games, tokens, models or training;
`textarena_table` knows TextArena.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msgrpo_cli.common.numbers import counted

from .core import InitialStates, Observation
from .seats import MultiPlayerGame
from .textarena import HIDDEN, check_answers, listed
from .textarena_table import TEXTS, TextArenaTable


class TextArenaSeats(MultiPlayerGame):
    """Players answer in the game's own order, each by what it has been told.

    A player's text is the latest board and what was said, all answers that it is told of among it; its rules are its
    own. A move that the game calls invalid is told to its player, who answers again, as often as the game forgives it.
    Rewards come at the end.
    """

    actions: tuple[str, ...] | None = None

    def __init__(
        self,
        game: str,
        actions: Sequence[str] | None,
        max_steps: int,
        players: int = 2,
        remember: bool = True,
        answer: str = "[{action}]",
        arguments: Mapping[str, Any] | None = None,
        initial_states: InitialStates = "few",
        success_from: float | None = None,
    ) -> None:
        """`actions` of None is free text; `answer` is what TextArena is told; a player's total reward of
        `success_from` or more counts as won. `remember`: what was said stays until the end, else until the player has
        answered.

        Raises ValueError for a game that TextArena does not have, or that cannot be started with so many players.
        """
        self.actions = listed(actions)
        self.players = players
        super().__init__(max_steps)
        self.initial_states, self._success_from = initial_states, success_from
        self.hides = None if remember else HIDDEN
        self._answer = answer
        self.table = TextArenaTable(game, arguments, players, remember=remember)
        check_answers(self.table, self.actions, answer)
        self.observation_space = TEXTS
        self._totals = (0.0,) * players

    def new_game(self, rng: np.random.Generator) -> None:
        self._totals = (0.0,) * self.players
        self.table.new_game(rng)

    def to_move(self) -> tuple[int, ...]:
        return (self.table.mover,)

    def play_turn(self, actions: Mapping[int, str]) -> tuple[Sequence[float], str | None]:
        [action] = actions.values()
        if not self.table.answer(self._answer.replace("{action}", action), self.np_random):
            return self._totals, None
        self._totals = self.table.rewards()
        return self._totals, "end"

    def describe_to(self, player: int, observation: Observation = "full") -> str:
        return self.table.heard[player].text()

    def information_key(self, player: int) -> bytes:
        """What it reads."""
        heard = self.table.heard[player]
        return repr((heard.rules, heard.board, heard.said)).encode()

    def state_key(self) -> bytes:
        told = (part for heard in self.table.heard for part in (heard.rules, heard.board, heard.said))
        return self.table.key(str(self.table.mover), *told)

    def rules(self) -> str:
        return self.rules_for(self.table.mover)

    def rules_for(self, player: int) -> str:
        return f"{self.table.heard[player].rules}\nThere are at most {counted(self.max_steps, 'turn')}."

    def success_of(self, player: int) -> bool | None:
        return None if self._success_from is None else self._totals[player] >= self._success_from
