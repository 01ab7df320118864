"""Frozen Lakes with one fault each, for `msgrpo env check` to find. Imported by fresh processes, too."""

from __future__ import annotations

from itertools import count
from typing import Any

import gymnasium
import numpy as np

from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.games.guess_number import GuessNumber

_instances = count()


class Unseeded(FrozenLake):
    """The map comes from nowhere."""

    def new_game(self, rng: np.random.Generator) -> None:
        super().new_game(np.random.default_rng())


class PerMember(FrozenLake):
    """Every instance of the game has maps of its own."""

    def __init__(self, **keys: Any) -> None:
        super().__init__(**keys)
        self.number = next(_instances) % 3

    def new_game(self, rng: np.random.Generator) -> None:
        rng.random(self.number)
        super().new_game(rng)


class Swapped(FrozenLake):
    """Rows and columns are told the wrong way round."""

    def _coordinates(self, cell: int) -> str:
        return f"({cell % self.size}, {cell // self.size})"


class SlipperyInWords(FrozenLake):
    """The ice is dry, the prompt says otherwise."""

    def describe(self, observation: Any = "full") -> str:
        return super().describe(observation).replace("is not slippery", "is slippery")


class Mirrored(FrozenLake):
    """Columns are counted from the right, and what is stated is counted so, too."""

    facts = ()

    def _coordinates(self, cell: int) -> str:
        return f"({cell // self.size}, {self.size - 1 - cell % self.size})"


class Unreadable(FrozenLake):
    """An action that the parser never gives back."""

    actions = ("left", "down", "right", "Up")


class Generous(FrozenLake):
    """A step may bring more than is declared."""

    def play(self, action: str) -> tuple[float, str | None]:
        reward, ending = super().play(action)
        return (reward + 2.5 if ending else reward), ending


class Endless(FrozenLake):
    """Nothing ends an episode."""

    def step(self, action: int) -> Any:
        text, reward, _, _, info = super().step(action)
        return text, reward, False, False, info


class Anywhere(FrozenLake):
    """Begins on any free cell, so that moves lead from one start to others."""

    def new_game(self, rng: np.random.Generator) -> None:
        super().new_game(rng)
        free = [cell for cell, tile in enumerate("".join(self.board)) if tile in "SF"]
        self.cell = free[int(rng.integers(len(free)))]


class AnywhereByMap(Anywhere):
    """The same, held out by the map."""

    def split_key(self) -> bytes:
        return "".join(self.board).encode()


class Ring(GuessNumber):
    """A hundred places in a ring; the full text has a clock, so that no two of its texts are alike."""

    initial_states = "many"
    facts = ()

    def new_game(self, rng: np.random.Generator) -> None:
        self.place = int(rng.integers(100))

    def play(self, action: str) -> tuple[float, str | None]:
        self.place = (self.place + (1 if action == "1" else -1)) % 100
        return 0.0, None

    def describe(self, observation: Any = "full") -> str:
        return f"{self.place}" if observation == "compact" else f"You are at {self.place}, {self.elapsed} steps on."

    def state_key(self) -> bytes:
        return bytes([self.place])


class Forgetful(FrozenLake):
    """The key forgets the holes."""

    def state_key(self) -> bytes:
        return str(self.cell).encode()


class Oblivious(GuessNumber):
    """The key forgets what no text shows."""

    def state_key(self) -> bytes:
        return repr(self.guesses).encode()


class Hiding(FrozenLake):
    """The text leaves the holes out."""

    facts = ()
    moves = None

    def describe(self, observation: Any = "full") -> str:
        return f"You are at {self.cell}."


class HidingAndSaying(Hiding):
    """The same, on purpose."""

    hides = "the holes"


class Fenced(FrozenLake):
    """Moves off the board are no legal moves; keeps its promises, and plays no other."""

    def legal(self) -> tuple[str, ...]:
        return self.legal_in(self.state())

    def legal_in(self, state: Any) -> tuple[str, ...]:
        row, column = divmod(state[2], self.size)
        last = self.size - 1
        inside = (column > 0, row < last, column < last, row > 0)
        return tuple(name for name, possible in zip(self.actions, inside, strict=True) if possible)

    def play(self, action: str) -> tuple[float, str | None]:
        if action not in self.legal():
            raise AssertionError(f"{action} is no move here")
        return super().play(action)

    def transitions(self, state: Any, action: str) -> Any:
        if action not in self.legal_in(state):
            raise AssertionError(f"{action} is no move of {state}")
        return super().transitions(state, action)

    def greedy_action(self) -> str:
        return next(iter(self.shortest_moves()), self.legal()[0])


class Telling(GuessNumber):
    """The moves get fewer about a number that no text shows."""

    def legal(self) -> tuple[str, ...]:
        return self.actions[: self.number]


class Stuck(Fenced):
    """No move is left in a state that goes on."""

    def legal(self) -> tuple[str, ...]:
        return () if self.cell == 5 else super().legal()


class Inventive(Fenced):
    """A move that is no action."""

    def legal(self) -> tuple[str, ...]:
        return (*super().legal(), "jump") if self.cell == 5 else super().legal()


class Backwards(Fenced):
    """Not in the order of the actions."""

    def legal(self) -> tuple[str, ...]:
        return super().legal()[::-1]


class Trapdoor(Fenced):
    """A legal move that cannot be played."""

    def play(self, action: str) -> tuple[float, str | None]:
        if self.cell == 5 and action == "up":
            raise LookupError("the ice is gone")
        return super().play(action)


class Seldom(GuessNumber):
    """A legal move that cannot be played, and is hardly ever drawn at random."""

    def legal(self) -> tuple[str, ...]:
        return self.actions

    def play(self, action: str) -> tuple[float, str | None]:
        if self.guesses == (3,) and action == "16":
            raise LookupError("no such number")
        return super().play(action)


class TwoMinds(Fenced):
    """Exact play is told other moves."""

    def legal_in(self, state: Any) -> tuple[str, ...]:
        return self.actions

    def legal(self) -> tuple[str, ...]:
        return Fenced.legal_in(self, self.state())


class Careless(Fenced):
    """Its heuristic makes moves that are not legal."""

    def greedy_action(self) -> str:
        return "left"


class PerInstance(Fenced):
    """Every other instance of the game knows the first move alone."""

    def __init__(self, **keys: Any) -> None:
        super().__init__(**keys)
        self.known = 1 + 9 * (next(_instances) % 2)

    def legal_in(self, state: Any) -> tuple[str, ...]:
        return super().legal_in(state)[: self.known]

    def greedy_action(self) -> str:
        return self.legal()[0]


_PARENTS = (FrozenLake, Hiding, Anywhere, Fenced)
for _game in [*(child for parent in _PARENTS for child in parent.__subclasses__()), Oblivious, Ring, Telling, Seldom]:
    gymnasium.register(f"planted/{_game.__name__}-v0", entry_point=_game)
