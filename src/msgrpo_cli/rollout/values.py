"""What a policy's choices are worth where the dynamics are known: V and Q of the policy itself, by dynamic programming.

Knows states, transitions and how often a policy chooses what. Knows nothing about models, tokens or training.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from msgrpo_cli.games.core import KnownDynamics


@dataclass(frozen=True)
class Habit:
    """What a policy does in one state, whatever the time."""

    shares: Mapping[str, float]
    """Of the actions that are played, those in place of an invalid answer included; they sum to 1."""
    invalid: float = 0.0
    """Share of answers without an action."""


def reachable(game: KnownDynamics, start: Hashable) -> list[Hashable]:
    """Every state in which a decision can be taken from `start` on, `start` first."""
    found = {start: None}
    pending = [start]
    while pending:
        here = pending.pop()
        for action in game.legal_in(here):
            for _, after, _, ended in game.transitions(here, action):
                if not ended and after not in found:
                    found[after] = None
                    pending.append(after)
    return list(found)


class PolicyValues:
    """Finite-horizon values of a policy that sees the state alone; horizons of hundreds of steps, as recursion goes.

    V_0(s) = 0; Q_h(s, a) = sum of p (r + V_{h-1}(s') unless the game ends); V_h(s) = sum over a of pi(a|s) Q_h(s, a)
    - penalty * P(invalid|s), with h the number of steps left (Sutton and Barto, 2nd edition, section 4.1).
    """

    def __init__(self, game: KnownDynamics, habits: Mapping[Hashable, Habit], penalty: float = 0.0) -> None:
        """`habits` holds every state that is reachable from those asked for; `penalty` is of an invalid answer."""
        self._game, self._habits, self._penalty = game, habits, penalty
        self._values: dict[tuple[Hashable, int], float] = {}

    def value(self, state: Hashable, steps_left: int) -> float:
        """V_h(s)."""
        return self._known(state, steps_left)

    def advantage(self, state: Hashable, steps_left: int, action: str, *, invalid: bool = False) -> float:
        """Q_h(s, a) - V_h(s), the penalty subtracted where the answer was invalid and `action` took its place."""
        value = self.value(state, steps_left)
        return self._q(state, steps_left, action) - (self._penalty if invalid else 0.0) - value

    def along(self, choices: Sequence[tuple[Hashable, str, bool]], steps_left: int) -> np.ndarray:
        """Advantages of an episode's choices (state, action, whether it took an invalid answer's place), shape (T,).

        `steps_left` are left at the first of them, and one fewer at each that follows.
        """
        return np.array(
            [
                self.advantage(state, steps_left - t, action, invalid=invalid)
                for t, (state, action, invalid) in enumerate(choices)
            ]
        )

    def _known(self, state: Hashable, steps_left: int) -> float:
        if steps_left == 0:
            return 0.0
        if (state, steps_left) not in self._values:
            habit = self._habits[state]
            expected = sum(
                share * self._q(state, steps_left, action) for action, share in habit.shares.items() if share
            )
            self._values[state, steps_left] = expected - self._penalty * habit.invalid
        return self._values[state, steps_left]

    def _q(self, state: Hashable, steps_left: int, action: str) -> float:
        return sum(
            chance * (reward + (0.0 if ended else self._known(after, steps_left - 1)))
            for chance, after, reward, ended in self._game.transitions(state, action)
        )
