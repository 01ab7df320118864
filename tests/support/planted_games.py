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


for _game in [*FrozenLake.__subclasses__(), *Hiding.__subclasses__(), *Anywhere.__subclasses__(), Oblivious, Ring]:
    gymnasium.register(f"planted/{_game.__name__}-v0", entry_point=_game)
