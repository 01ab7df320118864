"""Any single-player game of TextArena: `env=textarena env.game=LightsOut-v0`.

Knows how its table becomes one player's game. Knows nothing about single games, tokens, models or training;
`textarena_table` knows TextArena.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msgrpo_cli.common.numbers import counted

from .core import InitialStates, Observation, TextMediatedStochasticGame
from .textarena_table import TEXTS, TextArenaTable

HIDDEN = "what was said before the last action"


class TextArenaGame(TextMediatedStochasticGame):
    """One game, its own words for rules and state, and an answer for every action.

    The text is the latest board and what the game has said since the last action; the rewards are the game's own, which
    most games give at their end alone. A move that the game calls invalid is told in the text; how many of them it
    forgives is its own rule.
    """

    actions: tuple[str, ...] | None = None

    def __init__(
        self,
        game: str,
        actions: Sequence[str] | None,
        max_steps: int,
        answer: str = "[{action}]",
        arguments: Mapping[str, Any] | None = None,
        initial_states: InitialStates = "many",
        success_from: float | None = None,
    ) -> None:
        """`actions` of None is free text; `answer` is what TextArena is told; `arguments` go to the game's constructor.

        Raises ValueError for a game that TextArena does not have, or that cannot be started with one player.
        """
        self.actions = listed(actions)
        super().__init__(max_steps)
        self.initial_states, self._success_from = initial_states, success_from
        self.hides = HIDDEN
        self._answer = answer
        self.table = TextArenaTable(game, arguments, players=1)
        check_answers(self.table, self.actions, answer)
        self.observation_space = TEXTS
        self._total = 0.0

    def new_game(self, rng: np.random.Generator) -> None:
        self._total = 0.0
        self.table.new_game(rng)

    def play(self, action: str) -> tuple[float, str | None]:
        if not self.table.answer(self._answer.replace("{action}", action), self.np_random):
            return 0.0, None
        [self._total] = self.table.rewards()
        return self._total, "end"

    def describe(self, observation: Observation = "full") -> str:
        return self.table.heard[0].text()

    def rules(self) -> str:
        return f"{self.table.heard[0].rules}\nYou have at most {counted(self.max_steps, 'move')}."

    def state_key(self) -> bytes:
        return self.table.key(self.table.heard[0].board, self.table.heard[0].said)

    @property
    def success(self) -> bool | None:
        return None if self._success_from is None else self._total >= self._success_from


def listed(actions: Sequence[str] | None) -> tuple[str, ...] | None:
    """The actions as a game has them; None for free text."""
    return None if actions is None else tuple(actions)


def check_answers(table: TextArenaTable, actions: Sequence[str] | None, answer: str) -> None:
    """Raise ValueError where actions cannot be told, or the game understands none of them."""
    if "{action}" not in answer:
        raise ValueError(f"answer={answer}: must hold {{action}}")
    if actions and table.refuses_all([answer.replace("{action}", action) for action in actions]):
        raise ValueError(f"actions={list(actions)}: {table.name} refuses every one of them, told as {answer}")
