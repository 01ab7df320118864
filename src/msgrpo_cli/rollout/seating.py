"""Who sits where in games of several players: seats for every group, and a policy that asks whoever sits there.

Knows seats, players' names and the `Policy` protocol. Knows nothing about what a player is made of, rules of games,
models or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from msgrpo_cli.common.seeding import Key, uniforms
from msgrpo_cli.episode import SELF, Completion

from .play import Decision, Policy, Remembering
from .players import GreedyPlayer, RandomPlayer, SearchPlayer

POOL = "pool"
REFERENCES: dict[str, Callable[[], Policy]] = {
    "random": RandomPlayer,
    "greedy": GreedyPlayer,
    "search": SearchPlayer,
}
"""Players that need no model."""


@dataclass(frozen=True)
class Seating:
    """Who sits where; the members of a group share it: they are compared in one role, against the same others."""

    seats: tuple[str, ...]
    """One for each seat: `self`, a name of `REFERENCES`, `pool`, or another name of a player."""
    rotate: bool = True
    """Whether the seats are moved on by one from group to group."""
    pool: tuple[tuple[str, float], ...] = ()
    """Who may sit where `seats` says `pool`: names, and weights with which one is drawn."""

    def of(self, number: int, key: Key) -> tuple[str, ...]:
        """The seats of group number `number`; `key` names the draws from the pool."""
        moved = number % len(self.seats) if self.rotate else 0
        turned = self.seats[-moved:] + self.seats[:-moved] if moved else self.seats
        return tuple(self._drawn((*key, POOL, seat)) if who == POOL else who for seat, who in enumerate(turned))

    def _drawn(self, key: Key) -> str:
        at = float(uniforms(key, 1)[0]) * sum(weight for _, weight in self.pool)
        for name, weight in self.pool:
            at -= weight
            if at < 0:
                return name
        return self.pool[-1][0]


def against_random(players: int) -> tuple[str, ...]:
    """`self` on one seat, random play on all others."""
    return (SELF, *["random"] * (players - 1))


class SeatedPolicy:
    """Asks whoever sits there: `own` where it is `self`, else the player of that name, made once."""

    def __init__(self, own: Policy, player: Callable[[str], Policy]) -> None:
        self.own = own
        self._player = player

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        """All decisions of one player in one batch."""
        numbers: dict[str, list[int]] = {}
        for number, asked in enumerate(decisions):
            numbers.setdefault(asked.player, []).append(number)
        answers: dict[int, Completion] = {}
        for name, of_player in numbers.items():
            policy = self.own if name == SELF else self._player(name)
            said = policy.act([decisions[number] for number in of_player])
            answers.update(zip(of_player, said, strict=True))
        return [answers[number] for number in range(len(decisions))]

    @staticmethod
    def own_of(policy: Policy) -> Policy:
        """Who sits where it is `self`, of a policy with others beside it; else the policy."""
        return policy.own if isinstance(policy, SeatedPolicy) else policy

    def unchanged(self) -> AbstractContextManager[Any]:
        """As the policy's own."""
        return self.own.unchanged() if isinstance(self.own, Remembering) else nullcontext()
