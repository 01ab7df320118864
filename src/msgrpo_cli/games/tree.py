"""A finite game as a tree: whose turn it is, what chance does, what a seat knows, what is paid.

Knows probabilities, seats and rewards. Knows nothing about texts, policies or how a tree is solved.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable


class Tree(Protocol):
    """A node of a finite extensive-form game of N seats, and all that follows it.

    Exactly one of three holds: chance moves (`chance` is not empty), seats move (`to_move` is not empty; several choose
    at once), or the game has ended. Rewards are paid on the way; a seat's total is the sum over the nodes it comes by.
    """

    @property
    def players(self) -> int:
        """How many seats there are: 0, 1, ..."""

    @property
    def perfect_information(self) -> bool:
        """Whether a seat that moves knows the state, and goes by nothing else: nodes of equal `state_key` are then
        looked at once, and `information_key` needs to hold no more than the state."""

    def chance(self) -> Sequence[tuple[float, Self]]:
        """What chance brings, with probabilities that sum to one."""

    def to_move(self) -> tuple[int, ...]:
        """The seats that choose now."""

    def legal(self, player: int) -> tuple[str, ...]:
        """What a seat that moves may choose; at least one action."""

    def information_key(self, player: int) -> Hashable:
        """All that a seat that moves knows, with what it knew and did before (perfect recall): nodes of equal keys are
        one information set, and offer the same actions."""

    def after(self, actions: Mapping[int, str]) -> Self:
        """The node that follows when the seats that move choose so."""

    def rewards(self) -> Sequence[float]:
        """What every seat is paid on coming here, of the last move alone."""

    def state_key(self) -> Hashable:
        """What decides how the game goes on: nodes of equal keys go on alike."""


@runtime_checkable
class HasTree(Protocol):
    """A game of several players that is finite, and can be put wherever it may come."""

    def tree(self) -> Any:
        """Its `Tree`, from the very beginning. The seats' information keys in it, as text or bytes, may be finer than
        those of the game, never coarser."""

    def stand_at(self, node: Any) -> None:
        """Be where a node is in which seats move; the step count stays."""
