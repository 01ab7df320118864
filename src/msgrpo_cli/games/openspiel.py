"""A game of OpenSpiel in words: `env=openspiel env.game=kuhn_poker`, one seat against others who move at random.

Knows how its seats become one player's game. Knows nothing about single games, tokens, models or training;
`openspiel_table` knows OpenSpiel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from msgrpo_cli.common.numbers import counted

from .core import InitialStates, Observation, TextMediatedStochasticGame
from .openspiel_table import OpenSpielTable

_TRIED = 1000  # starts in which the seat never moves, before it is said that there is none


class OpenSpielGame(TextMediatedStochasticGame):
    """One seat of a game of two or more, or of one; the others choose uniformly among their legal moves.

    Their moves, and chance, come from the start's generator until the seat first moves, and from `np_random` later.
    """

    actions: tuple[str, ...] = ()

    def __init__(
        self,
        game: str,
        max_steps: int,
        seat: int = 0,
        arguments: Mapping[str, Any] | None = None,
        rules: str = "",
        initial_states: InitialStates = "few",
        success_from: float | None = None,
    ) -> None:
        """`arguments` are OpenSpiel's parameters of the game; a total reward of `success_from` or more counts as won.

        Raises ValueError for a game, parameter or seat that OpenSpiel does not have.
        """
        self.table = OpenSpielTable(game, arguments)
        if not 0 <= seat < self.table.players:
            raise ValueError(f"seat={seat}: {game} has the seats 0 to {self.table.players - 1}")
        self.seat = seat
        self.actions = self.table.words_of(seat)
        super().__init__(max_steps)
        self.initial_states, self._success_from, self._rules = initial_states, success_from, rules
        self.hides = self.table.hides
        self.reward_range = self.table.reward_range
        self._total = 0.0

    def new_game(self, rng: np.random.Generator) -> None:
        self._total = 0.0
        for _ in range(_TRIED):
            self.table.new_game(rng)
            if self._until_the_seat_moves()[1] is None:
                return
        raise ValueError(
            f"seat={self.seat}: {self.table.name} ended {_TRIED} times before this seat moved; take another"
        )

    def play(self, action: str) -> tuple[float, str | None]:
        self.table.np_random = self.np_random
        rewards, ended = self.table.play_turn(self._with_others({self.seat: action}))
        reward = rewards[self.seat]
        if ended is None:
            later, ended = self._until_the_seat_moves()
            reward += later
        self._total += reward
        return reward, ended

    def _until_the_seat_moves(self) -> tuple[float, str | None]:
        """Let the others move; what that pays the seat, and how the game ended, if it did."""
        paid, ended = 0.0, self.table.ended
        while ended is None and self.seat not in self.table.to_move():
            rewards, ended = self.table.play_turn(self._with_others({}))
            paid += rewards[self.seat]
        return paid, ended

    def _with_others(self, chosen: dict[int, str]) -> dict[int, str]:
        for other in self.table.to_move():
            if other not in chosen:
                moves = self.table.legal(other)
                chosen[other] = moves[int(self.table.np_random.integers(len(moves)))]
        return chosen

    def legal(self) -> tuple[str, ...]:
        over = self.table.ended is not None
        return self.actions if over else self.table.legal(self.seat)

    def describe(self, observation: Observation = "full") -> str:
        return self.table.describe(observation, self.seat)

    def rules(self) -> str:
        others = self.table.players - 1
        against = f" against {counted(others, 'other player')}" if others else ""
        low, high = self.reward_range
        paid = f" Your reward is between {low:g} and {high:g}." if np.isfinite([low, high]).all() else ""
        return (
            f"{self._rules or f'You play {self.table.title}.'} You are player {self.seat}{against}.{paid} "
            f"You have at most {counted(self.max_steps, 'move')}."
        )

    def state_key(self) -> bytes:
        return self.table.state_key()

    @property
    def success(self) -> bool | None:
        return None if self._success_from is None else self._total >= self._success_from
