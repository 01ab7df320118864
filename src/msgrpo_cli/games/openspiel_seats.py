"""A game of OpenSpiel in words with all its seats: `env=openspiel_seats env.game=kuhn_poker`, for self-play.

Knows how its table becomes a game of several players, and where a game stands in its tree. Knows nothing about single
games, tokens, models or training; `openspiel_table` knows OpenSpiel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msgrpo_cli.common.numbers import counted

from .core import InitialStates, Observation
from .openspiel_table import OpenSpielTable, OpenSpielTree
from .seats import MultiPlayerGame, Utility

_UTILITIES: Mapping[str, Utility] = {"zero_sum": "zero_sum", "identical": "common"}


class OpenSpielSeats(MultiPlayerGame):
    """Every seat of a game of two or more; the words of all seats are one list, of which a seat's own are legal."""

    actions: tuple[str, ...] = ()

    def __init__(
        self,
        game: str,
        max_steps: int,
        arguments: Mapping[str, Any] | None = None,
        rules: str = "",
        initial_states: InitialStates = "few",
        success_from: float | None = None,
    ) -> None:
        """`arguments` are OpenSpiel's parameters of the game; a seat's total reward of `success_from` or more counts as
        won.

        Raises ValueError for a game or parameter that OpenSpiel does not have, or a game of one seat.
        """
        self.board = OpenSpielTable(game, arguments)
        self.players = self.board.players
        if self.players < 2:
            raise ValueError(f"game={game}: has one seat; take env=openspiel env.game={game}")
        words = (word for seat in range(self.players) for word in self.board.words_of(seat))
        self.actions = tuple(dict.fromkeys(words))
        self._order = {word: number for number, word in enumerate(self.actions)}
        super().__init__(max_steps)
        self.initial_states, self._success_from, self._rules = initial_states, success_from, rules
        self.utility = _UTILITIES.get(self.board.utility, "general")
        self.hides = self.board.hides
        self.reward_range = self.board.reward_range
        self.ends_within = self.board.ends_within
        self._totals = [0.0] * self.players

    def new_game(self, rng: np.random.Generator) -> None:
        self._totals = [0.0] * self.players
        self.board.new_game(rng)

    def to_move(self) -> tuple[int, ...]:
        return self.board.to_move()

    def play_turn(self, actions: Mapping[int, str]) -> tuple[Sequence[float], str | None]:
        self.board.np_random = self.np_random
        rewards, ended = self.board.play_turn(actions)
        self._totals = [total + reward for total, reward in zip(self._totals, rewards, strict=True)]
        return rewards, ended

    def legal_for(self, player: int) -> tuple[str, ...]:
        return tuple(sorted(self.board.legal(player) or self.board.words_of(player), key=self._order.__getitem__))

    def describe_to(self, player: int, observation: Observation = "full") -> str:
        return self.board.describe(observation, player)

    def information_key(self, player: int) -> bytes:
        return self.board.information_key(player)

    def state_key(self) -> bytes:
        return self.board.state_key()

    def rules(self) -> str:
        low, high = self.reward_range
        paid = f" Rewards are between {low:g} and {high:g}." if np.isfinite([low, high]).all() else ""
        told = self._rules or f"You play {self.board.title}."
        return f"{told}{paid} There are at most {counted(self.max_steps, 'turn')}."

    def rules_for(self, player: int) -> str:
        return f"{self.rules()} You are player {player} of {self.players}, from 0 on."

    def success_of(self, player: int) -> bool | None:
        return None if self._success_from is None else self._totals[player] >= self._success_from

    # As a tree (`tree.HasTree`)

    def tree(self) -> OpenSpielTree:
        """The whole game, from before chance first moves; it knows no step limit."""
        return self.board.tree()

    def stand_at(self, node: OpenSpielTree) -> None:
        """Be where the node is: seats see what they see there."""
        self.board.stand_at(node)
