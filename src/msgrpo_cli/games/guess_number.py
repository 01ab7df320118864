"""Guess a number, as text: a game that needs memory, told with its history or without.

Knows numbers and what was answered. Knows nothing about tokens, models or training.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from msgrpo_cli.common.numbers import counted

from .core import Observation, TextMediatedStochasticGame, Transition
from .facts import Fact

_LARGEST = 100


def _said(game: GuessNumber) -> list[str]:
    """What was answered, as the text lists it."""
    shown = game.guesses if game.history else game.guesses[-1:]
    return ["; ".join(f"{guess} is too {'low' if guess < game.number else 'high'}" for guess in shown) or "nothing yet"]


class GuessNumber(TextMediatedStochasticGame):
    """Find a hidden number; every guess is answered with too low or too high. +1 when it is found, else 0.

    With `history` the text holds every answer so far, so that the present state is enough. Without, it holds the last
    one alone: whoever sees only the present state cannot do what someone with memory can.
    """

    actions: tuple[str, ...] = ()
    initial_states = "few"
    reward_range = (0.0, 1.0)
    facts: ClassVar[Any] = (
        Fact("range", "rules", r"between 1 and (\d+)", lambda game: [game.largest]),
        Fact("range", "full", r"between 1 and (\d+)", lambda game: [game.largest]),
        Fact("answers", "full", r"Answers so far: (.*)\. You have", _said),
        Fact("guesses", "full", r"(\d+) guesses left", lambda game: [game.max_steps - game.elapsed]),
    )

    def __init__(self, largest: int = 16, history: bool = True, max_steps: int = 4) -> None:
        if not 2 <= largest <= _LARGEST:
            raise ValueError(f"largest={largest}: must be between 2 and {_LARGEST}")
        self.actions = tuple(str(number) for number in range(1, largest + 1))
        super().__init__(max_steps)
        self.largest, self.history = largest, history
        self.hides = "the number" if history else "the number, and every answer but the last"
        self.number = 1
        self.guesses: tuple[int, ...] = ()

    def new_game(self, rng: np.random.Generator) -> None:
        self.number = int(rng.integers(1, self.largest + 1))
        self.guesses = ()

    def play(self, action: str) -> tuple[float, str | None]:
        self.guesses = (*self.guesses, int(action))
        return (1.0, "found") if self.success else (0.0, None)

    @property
    def success(self) -> bool:
        return self.guesses[-1:] == (self.number,)

    def describe(self, observation: Observation = "full") -> str:
        """`compact` says it in numbers: each guess with < or >, then how many are left."""
        left = self.max_steps - self.elapsed
        if self.success:
            return f"Found: {self.number}." if observation == "full" else f"= {self.number}"
        shown = self.guesses if self.history else self.guesses[-1:]
        if observation == "compact":
            return " ".join([*(f"{'>' if guess < self.number else '<'} {guess}" for guess in shown), "left", str(left)])
        answers = "; ".join(f"{guess} is too {'low' if guess < self.number else 'high'}" for guess in shown)
        return (
            f"A number between 1 and {self.largest} is hidden. Answers so far: {answers or 'nothing yet'}. "
            f"You have {left} guesses left."
        )

    def rules(self) -> str:
        return (
            f"Guess a hidden whole number between 1 and {self.largest}. Every guess is answered with too low or too "
            f"high. Finding it wins (reward 1). You have {counted(self.max_steps, 'guess', 'guesses')}."
        )

    def state_key(self) -> bytes:
        return repr((self.number, self.guesses)).encode()

    # What is known of the number: the state of whoever remembers every answer

    def state(self) -> tuple[int, int]:
        """The smallest and the largest number that it can still be."""
        low = max((guess + 1 for guess in self.guesses if guess < self.number), default=1)
        high = min((guess - 1 for guess in self.guesses if guess > self.number), default=self.largest)
        return low, high

    def transitions(self, state: tuple[int, int], action: str) -> list[Transition]:
        low, high = state
        guess, count = int(action), high - low + 1
        if not low <= guess <= high:
            return [(1.0, state, 0.0, False)]
        found: list[Transition] = [(1 / count, state, 1.0, True)]
        below, above = guess - low, high - guess
        if below:
            found.append((below / count, (low, guess - 1), 0.0, False))
        if above:
            found.append((above / count, (guess + 1, high), 0.0, False))
        return found

    def greedy_action(self) -> str:
        """Halve what is left."""
        low, high = self.state()
        return str((low + high) // 2)
