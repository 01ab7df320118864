"""Sokoban, as text: push every box onto a goal, on boards that are drawn at random and can always be solved.

Knows the board, its words and how to solve it. Knows nothing about tokens, models or training.
A cell is (row, column); (0, 0) is the top left one.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from msgrpo_cli.common.numbers import counted

from .core import Observation, TextMediatedStochasticGame
from .facts import Fact, Moves

Cell = tuple[int, int]
_MOVES: dict[str, Cell] = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
_SMALLEST, _LARGEST, _MOST_BOXES = 4, 8, 3
_PULLS = 40
"""Moves of the backward play that makes a board."""
_TRIES = 1000
_WALLS = 0.15
"""Share of inner cells that are walls."""


def _drawn(game: Sokoban) -> list[str]:
    """The board by its legend, cell by cell."""
    rows = [["."] * game.size for _ in range(game.size)]
    layers = [(game.goals, "o"), (game.walls, "#"), (game.boxes - game.goals, "$"), (game.boxes & game.goals, "*")]
    for cells, symbol in layers:
        for row, column in cells:
            rows[row][column] = symbol
    rows[game.player[0]][game.player[1]] = "+" if game.player in game.goals else "@"
    return ["\n".join(" ".join(row) for row in rows)]


_POSITION = r"You are at \((\d+), (\d+)\)"
_FACTS = (
    Fact("position", "full", _POSITION, lambda game: game.player),
    Fact("boxes", "full", r"Boxes: (.*)\. You", lambda game: [", ".join(str(cell) for cell in sorted(game.boxes))]),
    Fact("goals", "full", r"Goals: (.*)\. Boxes", lambda game: [", ".join(str(cell) for cell in sorted(game.goals))]),
    Fact("board", "full", r"You are .*\n((?:.|\n)*)\Z", _drawn),
    Fact("board", "compact", r"\A((?:.|\n)*)\Z", _drawn),
    Fact("step limit", "rules", r"at most (\d+) moves", lambda game: [game.max_steps]),
)


class Sokoban(TextMediatedStochasticGame):
    """Walk and push. +1 once all boxes stand on goals, else 0.

    A move into a box pushes it, where the cell behind is free; a move that cannot be made changes nothing. A board is
    made by playing backwards from a solved one, and kept where a shortest solution takes no more than `max_steps`.
    """

    actions = tuple(_MOVES)
    facts: ClassVar[Any] = _FACTS
    moves = Moves(_POSITION, _MOVES)
    reward_range = (0.0, 1.0)

    def __init__(self, size: int = 6, boxes: int = 1, max_steps: int = 25) -> None:
        """`size` counts the walls around."""
        if not _SMALLEST <= size <= _LARGEST:
            raise ValueError(f"size={size}: must be between {_SMALLEST} and {_LARGEST}")
        if not 1 <= boxes <= min(_MOST_BOXES, (size - 2) ** 2 // 4):
            raise ValueError(
                f"boxes={boxes}: must be between 1 and {min(_MOST_BOXES, (size - 2) ** 2 // 4)} on this size"
            )
        super().__init__(max_steps)
        self.size, self._box_count = size, boxes
        self.walls: frozenset[Cell] = frozenset()
        self.goals: frozenset[Cell] = frozenset()
        self.boxes: frozenset[Cell] = frozenset()
        self.player: Cell = (1, 1)

    def new_game(self, rng: np.random.Generator) -> None:
        for _ in range(_TRIES):
            self._draw(rng)
            steps = len(solution(self.walls, self.goals, self.player, self.boxes) or ())
            if 0 < steps <= self.max_steps:
                return
        raise ValueError(f"max_steps={self.max_steps}: no board of size {self.size} that is solved so soon was found")

    def _draw(self, rng: np.random.Generator) -> None:
        cells = [(row, column) for row in range(self.size) for column in range(self.size)]
        inner = [cell for cell in cells if min(cell) >= 1 and max(cell) <= self.size - 2]
        inner_walls = {cell for cell in inner if rng.random() < _WALLS}
        self.walls = frozenset(inner_walls | (set(cells) - set(inner)))
        free = [cell for cell in inner if cell not in inner_walls]
        if len(free) <= self._box_count + 1:
            self.boxes = self.goals = frozenset()
            return
        chosen = [free[int(number)] for number in rng.choice(len(free), size=self._box_count + 1, replace=False)]
        self.player, self.boxes = chosen[0], frozenset(chosen[1:])
        self.goals = self.boxes
        for _ in range(_PULLS):
            self._pull(list(_MOVES.values())[int(rng.integers(4))])

    def _pull(self, move: Cell) -> None:
        """Step back, and take a box along that stands in front."""
        after, before = _added(self.player, move), _added(self.player, move, -1)
        if after in self.walls or after in self.boxes:
            return
        if before in self.boxes:
            self.boxes = self.boxes - {before} | {self.player}
        self.player = after

    def play(self, action: str) -> tuple[float, str | None]:
        self.player, self.boxes = _pushed(self.walls, self.player, self.boxes, action)
        return (1.0, "solved") if self.success else (0.0, None)

    @property
    def success(self) -> bool:
        return self.boxes == self.goals

    def state_key(self) -> bytes:
        return repr((sorted(self.walls), sorted(self.goals), sorted(self.boxes), self.player)).encode()

    def split_key(self) -> bytes:
        """Walls and goals, which no move changes."""
        return repr((sorted(self.walls), sorted(self.goals))).encode()

    def greedy_action(self) -> str:
        """The first move of a shortest solution; the first action where there is none any more."""
        moves = solution(self.walls, self.goals, self.player, self.boxes)
        return moves[0] if moves else self.actions[0]

    def describe(self, observation: Observation = "full") -> str:
        rows = ["".join(self._symbol((row, column)) for column in range(self.size)) for row in range(self.size)]
        board = "\n".join(" ".join(row) for row in rows)
        if observation == "compact":
            return board
        return (
            "A position is (row, column); (0, 0) is the top left cell, the row grows downwards, the column to the "
            "right.\n"
            "Legend: @ you, + you on a goal, $ box, * box on a goal, o goal, # wall, . free.\n"
            f"Goals: {_listed(self.goals)}. Boxes: {_listed(self.boxes)}. You are at {self.player}.\n{board}"
        )

    def _symbol(self, cell: Cell) -> str:
        if cell in self.walls:
            return "#"
        goal = cell in self.goals
        if cell == self.player:
            return "+" if goal else "@"
        if cell in self.boxes:
            return "*" if goal else "$"
        return "o" if goal else "."

    def rules(self) -> str:
        boxes = "the box onto the goal" if self._box_count == 1 else f"all {self._box_count} boxes onto goals"
        return (
            f"Push {boxes} (reward 1). You move one cell up, down, left or right; moving into a box pushes it, where "
            "the cell behind it holds neither wall nor box. Boxes cannot be pulled. A move that is not possible "
            f"changes nothing. You have at most {counted(self.max_steps, 'move')}."
        )


def _added(cell: Cell, move: Cell, times: int = 1) -> Cell:
    return cell[0] + times * move[0], cell[1] + times * move[1]


def _pushed(walls: frozenset[Cell], player: Cell, boxes: frozenset[Cell], action: str) -> tuple[Cell, frozenset[Cell]]:
    """Where player and boxes are after a move."""
    after, behind = _added(player, _MOVES[action]), _added(player, _MOVES[action], 2)
    if after in walls:
        return player, boxes
    if after not in boxes:
        return after, boxes
    if behind in walls or behind in boxes:
        return player, boxes
    return after, boxes - {after} | {behind}


@lru_cache(maxsize=20_000)
def solution(
    walls: frozenset[Cell], goals: frozenset[Cell], player: Cell, boxes: frozenset[Cell]
) -> tuple[str, ...] | None:
    """A shortest sequence of moves that solves a board (breadth first); None where there is none."""
    came_from: dict[tuple[Cell, frozenset[Cell]], tuple[tuple[Cell, frozenset[Cell]], str] | None] = {}
    queue = deque([(player, boxes)])
    came_from[player, boxes] = None
    while queue:
        here = queue.popleft()
        if here[1] == goals:
            moves: list[str] = []
            while (before := came_from[here]) is not None:
                here, move = before
                moves.append(move)
            return tuple(reversed(moves))
        for move in _MOVES:
            after = _pushed(walls, *here, move)
            if after not in came_from:
                came_from[after] = (here, move)
                queue.append(after)
    return None


def _listed(cells: frozenset[Cell]) -> str:
    return ", ".join(map(str, sorted(cells)))
