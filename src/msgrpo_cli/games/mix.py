"""Several games in one: every start belongs to one of them, drawn by weight.

Knows the interface of games. Knows nothing about single games, configs, models or training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from .core import Observation, TextMediatedStochasticGame
from .registry import GameBlock, make_game


class Mix(TextMediatedStochasticGame):
    """Plays one of its games at a time; all members of a group play the same one, for they share their start."""

    actions: tuple[str, ...] | None = ()
    evaluation_keys: ClassVar[Mapping[str, Any]] = {"evaluation": True}

    def __init__(
        self,
        games: Sequence[Mapping[str, Any]],
        weights: Sequence[float] | None = None,
        max_steps: int = 1,
        evaluation: bool = False,
    ) -> None:
        """`games` are whole `env` blocks; `max_steps` is the longest of theirs, each keeps its own."""
        if len(games) < 2:
            raise ValueError(f"games={len(games)} of them: a mixture needs two or more")
        share = np.array(weights if weights is not None else [1.0] * len(games), dtype=np.float64)
        if len(share) != len(games) or not (np.isfinite(share).all() and (share > 0).all()):
            raise ValueError(f"weights={list(weights or [])}: one positive number for each of the {len(games)} games")
        blocks = [GameBlock.of(block) for block in games]
        names = [block.name for block in blocks]
        if len(set(names)) < len(names):
            raise ValueError(f"games={names}: the same name twice")
        self._games = {block.name: make_game(block, evaluation) for block in blocks}
        if several := [name for name, game in self._games.items() if game.players > 1]:
            raise ValueError(f"games={names}: {several[0]} has several players; a mixture takes games of one")
        share = share / share.max()  # no overflow in the sum
        self._share = share / share.sum()
        self._choose(names[0])
        super().__init__(max_steps)
        self.reward_range = (
            min(game.reward_range[0] for game in self._games.values()),
            max(game.reward_range[1] for game in self._games.values()),
        )
        kinds = {name: game.initial_states for name, game in self._games.items()}
        self.initial_states = next(kind for kind in ("many", "connected", "few") if kind in kinds.values())
        self.not_held_out = tuple(name for name, kind in kinds.items() if kind != "many")
        hidden = [f"{name}: {game.hides}" for name, game in self._games.items() if game.hides]
        self.hides = "; ".join(hidden) or None

    def _choose(self, name: str) -> None:
        self._name = self.label = name
        self.actions, self.action_space = self._games[name].actions, self._games[name].action_space

    @property
    def present(self) -> TextMediatedStochasticGame:
        game = self._games[self._name]
        game.elapsed = self.elapsed
        return game

    def new_game(self, rng: np.random.Generator) -> None:
        self._choose(list(self._games)[int(rng.choice(len(self._share), p=self._share))])
        game = self.present
        game.reset(seed=int(rng.integers(2**31)))
        self.max_steps, self.initial_states = game.max_steps, game.initial_states

    def play(self, action: str) -> tuple[float, str | None]:
        game = self.present
        game.np_random = self.np_random
        return game.play(action)

    def describe(self, observation: Observation = "full") -> str:
        return self.present.describe(observation)

    def rules(self) -> str:
        return self.present.rules()

    def legal(self) -> tuple[str, ...]:
        return self.present.legal()

    @property
    def limits_moves(self) -> bool:
        """Of the whole mixture, so that all of its rows hold the same."""
        return any(game.limits_moves for game in self._games.values())

    def state_key(self) -> bytes:
        return self._name.encode() + b":" + self.present.state_key()

    @property
    def success(self) -> bool | None:
        return self.present.success

    def declares_success(self) -> bool:
        return all(game.declares_success() for game in self._games.values())

    def lists_moves(self) -> bool:
        return all(game.lists_moves() for game in self._games.values())

    def game_metrics(self) -> dict[str, float]:
        return {f"{self._name}/{name}": value for name, value in self.present.game_metrics().items()}

    def greedy_action(self) -> str | None:
        return self.present.greedy_action()

    def search_action(self) -> str | None:
        """The present game's search, or its heuristic where it has none."""
        return self.present.search_action() or self.present.greedy_action()

    def parse(self, text: str) -> str | None:
        return self.present.parse(text)
