"""Games of several players: who decides now, what each sees, what each gets; and one seat's view of such a game.

Knows games, seats, words and rewards. Knows nothing about who sits on a seat, tokens, models or training.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from .core import Observation, TextMediatedStochasticGame
from .guard import BrokenPromise, checked_reward

Utility = Literal["zero_sum", "common", "general"]
"""How the rewards of the seats are tied at every turn: they sum to 0, they are equal, or neither."""


class MultiPlayerGame(TextMediatedStochasticGame):
    """A stochastic game of `players` seats, numbered from 0, each with a renderer of its own.

    A turn is one call of `play_turn`: all seats that `to_move` names decide at once, each from what `describe_to` shows
    to it. `max_steps` counts turns. What the one-player interface asks (`describe`, `legal`, ...) is answered as the
    first seat that is to move sees it; it is played by turns alone.
    """

    players: int = 2
    utility: Utility = "general"
    seats_are_alike: bool = False
    """Whether exchanging what two seats do exchanges their rewards; of games in which all decide at once."""

    def __init__(self, max_steps: int) -> None:
        super().__init__(max_steps)
        if self.players < 2:
            raise ValueError(f"players={self.players}: a game of several players has at least 2 seats")
        self._views = [SeatView(self, player) for player in range(self.players)]

    # What a game fills in, beside `actions`, `new_game`, `rules` and `state_key`

    @abstractmethod
    def to_move(self) -> tuple[int, ...]:
        """The seats that decide now, ascending: one where players move in turn, several where they move at once."""

    @abstractmethod
    def play_turn(self, actions: Mapping[int, str]) -> tuple[Sequence[float], str | None]:
        """Play the action of every seat of `to_move`; later chance comes from `self.np_random`.

        Returns the rewards of all seats and, where the game ends by its rules, a word for how.
        """

    @abstractmethod
    def describe_to(self, player: int, observation: Observation = "full") -> str:
        """Render what this seat sees: its own information, and nothing that it is not to know."""

    @abstractmethod
    def information_key(self, player: int) -> bytes:
        """What this seat may know of the state: states of equal keys look alike to it, and leave it the same moves."""

    def legal_for(self, player: int) -> tuple[str, ...]:
        """The moves of a seat that is to move, as `legal` has it; told by what is shown to it alone."""
        return self.actions or ()

    def rules_for(self, player: int) -> str:
        """The rules as this seat reads them, where roles differ."""
        return self.rules()

    def success_of(self, player: int) -> bool | None:
        """Whether the episode so far counts as won for this seat; None where the game declares no success."""
        return None

    def greedy_action_of(self, player: int) -> str | None:
        """What the game's simple heuristic player does on this seat; None where there is none."""
        return None

    def search_action_of(self, player: int) -> str | None:
        """What a search within a stated budget does on this seat; None where there is none."""
        return None

    # What every such game has

    def seen_by(self, player: int) -> SeatView:
        """The game as this seat sees it now."""
        view = self._views[player]
        view.elapsed = self.elapsed
        return view

    def movers(self) -> tuple[int, ...]:
        """What `to_move` names, held against what it promises. Raises BrokenPromise."""
        movers = self.to_move()
        seats = range(self.players)
        if not (isinstance(movers, tuple) and movers and all(isinstance(one, int) and one in seats for one in movers)):
            raise BrokenPromise(
                f"to_move() returned {movers!r}; it must return a tuple of seats from 0 to {self.players - 1}, at "
                "least one while the game goes on"
            )
        if list(movers) != sorted(set(movers)):
            raise BrokenPromise(f"to_move() returned {movers!r}; each seat once, in ascending order")
        return movers

    def take_turn(self, actions: Mapping[int, str]) -> tuple[tuple[float, ...], bool, bool, str | None]:
        """Play one turn: the rewards of all seats, terminated, truncated, and the word for the end, if it is one.

        Raises BrokenPromise where `play_turn` returns what no game may return.
        """
        rewards, ending = checked_turn(self.play_turn(actions), self.players)
        truncated = self._count_step(ending is not None)
        return rewards, ending is not None, truncated, ending or ("step limit" if truncated else None)

    def play(self, action: str) -> tuple[float, str | None]:
        raise BrokenPromise(
            f"{type(self).__name__} has {self.players} players: it is played by play_turn, and one action is no turn"
        )

    def describe(self, observation: Observation = "full") -> str:
        return self.describe_to(self.movers()[0], observation)

    def legal(self) -> tuple[str, ...]:
        return self.legal_for(self.movers()[0])

    @property
    def limits_moves(self) -> bool:
        return self.actions is not None and type(self).legal_for is not MultiPlayerGame.legal_for

    def declares_success(self) -> bool:
        self.reset(seed=0)
        return self.success_of(0) is not None

    def greedy_action(self) -> str | None:
        return self.greedy_action_of(self.movers()[0])

    def search_action(self) -> str | None:
        return self.search_action_of(self.movers()[0])


class SeatView(TextMediatedStochasticGame):
    """A game of several players as one seat sees it: a game of one player that is looked at, answered, never played."""

    def __init__(self, game: MultiPlayerGame, player: int) -> None:
        self.actions = game.actions
        super().__init__(game.max_steps)
        self._game, self.player = game, player
        self.players = game.players

    @property
    def table(self) -> MultiPlayerGame:
        """The whole game, which no player is to look at."""
        return self._game

    def new_game(self, rng: np.random.Generator) -> None:
        self._game.new_game(rng)

    def play(self, action: str) -> tuple[float, str | None]:
        return self._game.play(action)

    def describe(self, observation: Observation = "full") -> str:
        return self._game.describe_to(self.player, observation)

    def rules(self) -> str:
        return self._game.rules_for(self.player)

    def state_key(self) -> bytes:
        """What the seat may know; the state itself is hidden."""
        return self._game.information_key(self.player)

    def legal(self) -> tuple[str, ...]:
        return self._game.legal_for(self.player)

    @property
    def limits_moves(self) -> bool:
        return self._game.limits_moves

    @property
    def success(self) -> bool | None:
        return self._game.success_of(self.player)

    def greedy_action(self) -> str | None:
        return self._game.greedy_action_of(self.player)

    def search_action(self) -> str | None:
        return self._game.search_action_of(self.player)

    def parse(self, text: str) -> str | None:
        return self._game.parse(text)


def checked_turn(outcome: object, players: int) -> tuple[tuple[float, ...], str | None]:
    """The rewards of all seats, and the word for the end. Raises BrokenPromise."""
    if not (isinstance(outcome, tuple) and len(outcome) == 2):
        raise BrokenPromise(
            f"play_turn returned {outcome!r}; it must return the rewards of all seats and a word for the end, or None"
        )
    rewards, ending = outcome
    if not (isinstance(rewards, Sequence | np.ndarray) and not isinstance(rewards, str) and len(rewards) == players):
        raise BrokenPromise(
            f"play_turn returned the rewards {rewards!r}; it must return one for each of {players} seats"
        )
    if not (ending is None or isinstance(ending, str)):
        raise BrokenPromise(f"play_turn returned the word {ending!r} for the end; it must be a word, or None meanwhile")
    return tuple(checked_reward(reward) for reward in rewards), ending


def utility_problem(utility: Utility, rewards: Sequence[float]) -> str | None:
    """What is wrong with the rewards of a turn, in words, where a game says how they are tied."""
    span = 1e-9 * max(1.0, *(abs(reward) for reward in rewards))
    if utility == "zero_sum" and abs(sum(rewards)) > span:
        return f"utility = 'zero_sum', but the rewards {list(rewards)} sum to {sum(rewards):g}"
    if utility == "common" and max(rewards) - min(rewards) > span:
        return f"utility = 'common', but the rewards {list(rewards)} differ"
    return None
