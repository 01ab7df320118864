"""Snake with a player to every snake, for self-play: `env=snakes`.

Knows how a board of Snake becomes a game of several players. Knows nothing about what kills or what is worth eating
(`game` does), tokens, models or training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, ClassVar

import numpy as np

from ..core import Observation
from ..seats import MultiPlayerGame
from .board import MOVES
from .game import Snake


class Snakes(MultiPlayerGame):
    """Every snake that lives has a seat and moves at once with the others, by the rules of `Snake`.

    A dead snake's seat decides no more, and keeps what it has. The game ends when at most one is left. All see the
    whole board, each told as its own. Food is what rewards are about, so they neither sum to 0 nor are equal. [ours]
    """

    actions = tuple(MOVES)
    evaluation_keys: ClassVar[Mapping[str, Any]] = {"step_reward": 0.0}

    def __init__(
        self,
        size: int = 6,
        apples: int = 3,
        snakes: int = 2,
        poison_apples: int = 0,
        bananas: int = 0,
        death_reward: float = -2.0,
        step_reward: float = -0.01,
        max_steps: int = 12,
    ) -> None:
        """Raises ValueError for keys that `Snake` refuses, or fewer snakes than two."""
        most = size**2 // 4
        if not 2 <= snakes <= most:
            raise ValueError(f"snakes={snakes}: must be between 2 and {most} on {size}x{size} cells")
        self.players = snakes
        self.board = Snake(
            size=size, apples=apples, opponents=snakes - 1, poison_apples=poison_apples, bananas=bananas,
            death_reward=death_reward, step_reward=step_reward, max_steps=max_steps,
        )  # fmt: skip
        super().__init__(max_steps)
        self.reward_range = min(0.0, self.board.reward_range[0]), max(0.0, self.board.reward_range[1])

    def new_game(self, rng: np.random.Generator) -> None:
        self.board.new_game(rng)

    def to_move(self) -> tuple[int, ...]:
        return tuple(seat for seat, body in enumerate(self.board.bodies) if body)

    def play_turn(self, actions: Mapping[int, str]) -> tuple[Sequence[float], str | None]:
        self.board.np_random = self.np_random
        paid = self.board.turn(actions)
        left = len(self.to_move())
        ended = {0: "no snake alive", 1: "last snake alive"}.get(left)
        return [paid[seat][0] if seat in paid else 0.0 for seat in range(self.players)], ended

    def describe_to(self, player: int, observation: Observation = "full") -> str:
        return self._seen_by(player).describe(observation)

    def information_key(self, player: int) -> bytes:
        return self._seen_by(player).state_key()

    def state_key(self) -> bytes:
        return self.board.state_key()

    def rules(self) -> str:
        return self.board.rules()

    def greedy_action_of(self, player: int) -> str:
        return self._seen_by(player).greedy_action()

    def search_action_of(self, player: int) -> str:
        return self._seen_by(player).search_action()

    def game_metrics(self) -> dict[str, float]:
        """Means over all snakes: `apples` eaten, `length` (0 when dead), `alive`."""
        bodies = self.board.bodies
        return {
            "apples": fmean(self.board.apples_eaten),
            "length": fmean(map(len, bodies)),
            "alive": fmean(map(bool, bodies)),
        }

    def _seen_by(self, player: int) -> Snake:
        view = self.board.seen_by(player)
        view.elapsed = self.elapsed
        return view
