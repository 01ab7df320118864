"""Minesweeper, as text: a board whose mines are hidden from the start.

Knows the board, its words and the chances of a mine. Knows nothing about tokens, models or training.
A cell is named by a letter for its column and a number for its row; a1 is the top left one.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations, takewhile
from math import comb
from typing import Any, ClassVar

import numpy as np

from msgrpo_cli.common.numbers import counted

from .core import Observation, TextMediatedStochasticGame
from .facts import Fact

_LARGEST = 6
_MOST_LAYOUTS = 150_000
"""Of mines, which the heuristic player enumerates."""


@lru_cache(maxsize=8)
def _neighbours(size: int) -> tuple[tuple[int, ...], ...]:
    cells = [divmod(cell, size) for cell in range(size**2)]
    return tuple(
        tuple(
            number
            for number, (r, c) in enumerate(cells)
            if (r, c) != (row, column) and max(abs(r - row), abs(c - column)) == 1
        )
        for row, column in cells
    )


@lru_cache(maxsize=4)
def _layouts(size: int, mines: int) -> tuple[np.ndarray, np.ndarray]:
    """Every layout of mines, shape (layouts, cells), and the number of mines around each cell, same shape."""
    chosen = np.array(list(combinations(range(size**2), mines)))
    mine_LC = np.zeros((len(chosen), size**2), dtype=np.int8)
    np.put_along_axis(mine_LC, chosen, 1, axis=1)
    around_CC = np.zeros((size**2, size**2), dtype=np.int8)
    for cell, others in enumerate(_neighbours(size)):
        around_CC[list(others), cell] = 1
    return mine_LC, mine_LC @ around_CC


def _drawing(game: Minesweeper) -> list[str]:
    """The board as the text shows it: `#` closed, else the number of mines around."""
    rows = []
    for row in range(game.size):
        cells = range(row * game.size, (row + 1) * game.size)
        shown = [
            str(sum(n in game.mines for n in _neighbours(game.size)[c])) if c in game.opened else "#" for c in cells
        ]
        rows.append(" ".join([str(row + 1), *shown]))
    return ["\n".join(rows)]


class Minesweeper(TextMediatedStochasticGame):
    """Open every cell without a mine. Each safe cell brings its share of 1; a mine ends the game.

    Opening a cell without mines around opens its neighbours, too. Opening an open cell changes nothing, or, with
    `legal_moves`, is no legal move.
    """

    actions: tuple[str, ...] = ()
    hides = "where the mines are"
    reward_range = (0.0, 1.0)
    facts: ClassVar[Any] = (
        Fact("size", "rules", r"(\d+) rows and (\d+) columns", lambda game: [game.size, game.size]),
        Fact("mines", "rules", r"(\d+) mines", lambda game: [len(game.mines)]),
        Fact("step limit", "rules", r"at most (\d+) cells", lambda game: [game.max_steps]),
        Fact("board", "full", r"\n((?:\d+(?: [#0-8])+\n?)+)\Z", _drawing),
        Fact("board", "compact", r"\n((?:\d+(?: [#0-8])+\n?)+)\Z", _drawing),
    )

    def __init__(self, size: int = 5, mines: int = 4, max_steps: int = 21, legal_moves: bool = False) -> None:
        if not 2 <= size <= _LARGEST:
            raise ValueError(f"size={size}: must be between 2 and {_LARGEST}")
        few = sum(1 for _ in takewhile(lambda n: comb(size**2, n) <= _MOST_LAYOUTS, range(1, size**2)))
        if not 1 <= mines <= few:
            raise ValueError(f"mines={mines}: must be between 1 and {few} on a board of size {size}")
        self.actions = tuple(f"{chr(ord('a') + column)}{row + 1}" for row in range(size) for column in range(size))
        super().__init__(max_steps)
        self.size, self._mine_count, self._only_closed = size, mines, legal_moves
        self.mines: frozenset[int] = frozenset(range(mines))
        self.opened: frozenset[int] = frozenset()

    def new_game(self, rng: np.random.Generator) -> None:
        self.mines = frozenset(map(int, rng.choice(self.size**2, size=self._mine_count, replace=False)))
        self.opened = frozenset()

    def play(self, action: str) -> tuple[float, str | None]:
        cell = self.actions.index(action)
        if cell in self.mines:
            return 0.0, "mine"
        before = len(self.opened)
        self._open(cell)
        return (len(self.opened) - before) / (self.size**2 - self._mine_count), "cleared" if self.success else None

    @property
    def limits_moves(self) -> bool:
        return self._only_closed

    def legal(self) -> tuple[str, ...]:
        if not self._only_closed:
            return self.actions
        return tuple(name for cell, name in enumerate(self.actions) if cell not in self.opened)

    def _open(self, cell: int) -> None:
        queue = [cell]
        while queue:
            here = queue.pop()
            if here not in self.opened:
                self.opened |= {here}
                if not self._around(here):
                    queue += _neighbours(self.size)[here]

    def _around(self, cell: int) -> int:
        return sum(other in self.mines for other in _neighbours(self.size)[cell])

    @property
    def success(self) -> bool:
        return len(self.opened) == self.size**2 - self._mine_count

    def describe(self, observation: Observation = "full") -> str:
        """Both texts show the board; the full one has a legend."""
        header = " ".join(["x", *(chr(ord("a") + column) for column in range(self.size))])
        rows = [
            " ".join([str(row + 1), *(self._symbol(row * self.size + column) for column in range(self.size))])
            for row in range(self.size)
        ]
        board = "\n".join([header, *rows])
        if observation == "compact":
            return board
        return (
            "Legend: # closed, a digit: open, with so many mines in the up to eight cells around it. "
            f"Columns have letters, rows have numbers from the top.\n{board}"
        )

    def _symbol(self, cell: int) -> str:
        return str(self._around(cell)) if cell in self.opened else "#"

    def rules(self) -> str:
        return (
            f"You open cells of a board of {self.size} rows and {self.size} columns with {self._mine_count} mines. "
            "Opening a mine ends the game. Opening all other cells wins; each brings its share of 1. A cell without "
            f"mines around it opens its neighbours, too. You may open at most {counted(self.max_steps, 'cell')}"
            f"{', closed ones alone' if self._only_closed else ''}."
        )

    def state_key(self) -> bytes:
        return repr((sorted(self.mines), sorted(self.opened))).encode()

    def greedy_action(self) -> str:
        """The closed cell that is least often a mine in all layouts that fit what is open, the first of equals."""
        mine_LC, around_LC = _layouts(self.size, self._mine_count)
        opened = sorted(self.opened)
        shown = np.array([self._around(cell) for cell in opened], dtype=np.int8)
        fits_L = ~mine_LC[:, opened].any(axis=1) & (around_LC[:, opened] == shown).all(axis=1)
        risk_C = mine_LC[fits_L].mean(axis=0)
        return min((risk, cell, self.actions[cell]) for cell, risk in enumerate(risk_C) if cell not in self.opened)[-1]
