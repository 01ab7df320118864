"""Snake's geometry: cells, bodies, and where a move leads.

Knows coordinates. Knows nothing about rules, words or players. A cell is (x, y); (0, 0) is the bottom left one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

Cell = tuple[int, int]
Body = tuple[Cell, ...]
"""From the head to the tail; empty where the snake is dead."""
MOVES: dict[str, Cell] = {"up": (0, 1), "down": (0, -1), "left": (-1, 0), "right": (1, 0)}
POISON = "poison apple"


class Board(Protocol):
    """What can be seen of a game of Snake: what its texts state and what players decide by."""

    size: int
    opponents: int
    max_steps: int
    elapsed: int
    death_reward: float

    @property
    def bodies(self) -> Sequence[Body]:
        """The own snake first."""

    @property
    def food(self) -> Mapping[Cell, str]:
        """What lies where."""

    def inside(self, cell: Cell) -> bool:
        """Whether a cell belongs to the board."""


def moved(cell: Cell, move: str) -> Cell:
    """The neighbour of a cell, on the board or not."""
    return cell[0] + MOVES[move][0], cell[1] + MOVES[move][1]


def distance(cell: Cell, other: Cell) -> int:
    """Moves from one cell to another over an empty board."""
    return abs(cell[0] - other[0]) + abs(cell[1] - other[1])
