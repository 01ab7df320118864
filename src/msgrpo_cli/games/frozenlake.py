"""Frozen Lake, as text: gymnasium's maps and transition tables, a random map for every seed.

Knows the lake, its words and its geometry. Knows nothing about tokens, models or training.
"""

from __future__ import annotations

import itertools
from collections import deque
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv, generate_random_map
from gymnasium.envs.toy_text.utils import categorical_sample

from msgrpo_cli.common.numbers import counted

from .core import Observation, TextMediatedStochasticGame, Transition
from .facts import Fact, Moves

Board = tuple[str, ...]
LakeState = tuple[Board, bool, int]
"""(board, slippery, cell number); row by row from the top left."""
_Table = dict[int, dict[int, list[Transition]]]

_MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # row and column changes, in gymnasium's order: left, down, right, up
_SYMBOLS = {"S": ".", "F": ".", "H": "O", "G": "G"}
_LARGEST = 16  # and at least half ice: maps are drawn until one has a way to the goal
_SPARSEST = 0.5
_WORDS = {".": "frozen", "O": "hole", "G": "goal"}
_OFF = "edge"
_PAIR_FROM = 7  # boards this wide are written two cells a word, so that 8x8 stays under 64 tokens


@lru_cache(maxsize=4096)
def _table(board: Board, slippery: bool) -> _Table:
    """gymnasium's own transition table of a map: table[cell][action] -> outcomes."""
    table: _Table = FrozenLakeEnv(desc=list(board), is_slippery=slippery).P
    return table


def _slips(game: FrozenLake) -> bool:
    """Whether some move from the first cell has more than one outcome."""
    start = (game.board, game.slippery, 0)
    return any(len({after for _, after, *_ in game.transitions(start, move)}) > 1 for move in game.legal_in(start))


def _ice(game: FrozenLake) -> list[str]:
    return ["slippery" if _slips(game) else "not slippery"]


def _holes(game: FrozenLake) -> list[str]:
    """As the text lists them: row by row."""
    places = [(row, column) for row, line in enumerate(game.board) for column, tile in enumerate(line) if tile == "H"]
    return [", ".join(map(str, places)) or "none"]


def _drawing(game: FrozenLake) -> list[list[str]]:
    lines = [["O" if tile == "H" else "G" if tile == "G" else "." for tile in line] for line in game.board]
    row, column = divmod(game.cell, game.size)
    lines[row][column] = "P"
    return lines


def _cells(row: list[str]) -> str:
    """A row as the compact text writes it: wide boards two cells a word."""
    width = 1 if len(row) < _PAIR_FROM else 2
    return " ".join("".join(row[first : first + width]) for first in range(0, len(row), width))


def _around(game: FrozenLake) -> list[str]:
    """As the text says it, where it does."""
    if not game.look_around:
        return [""]
    row, column = divmod(game.cell, game.size)
    lines = ["".join(line).replace("S", "F") for line in game.board]
    said = []
    for name, (down, right) in zip(game.actions, _MOVES, strict=True):
        on = 0 <= row + down < game.size and 0 <= column + right < game.size
        tile = lines[row + down][column + right] if on else ""
        said.append(f"{name} { ({'F': 'frozen', 'H': 'hole', 'G': 'goal'}.get(tile, _OFF)) }")
    return [f"\nAround you: {', '.join(said)}."]


_POSITION = r"You are at \((\d+), (\d+)\)"
_AROUND = r"(?:\nAround .*)?\Z"
_FACTS = (
    Fact("board size", "full", r"Board: (\d+) rows and (\d+) columns", lambda game: (game.size, game.size)),
    Fact("position", "full", _POSITION, lambda game: divmod(game.cell, game.size)),
    Fact(
        "goal", "full", r"goal is at \((\d+), (\d+)\)", lambda game: divmod("".join(game.board).index("G"), game.size)
    ),
    Fact("holes", "full", r"Holes: (.*)\.\n", _holes),
    Fact("ice", "full", r"The ice is (slippery|not slippery)\.", _ice),
    Fact("ice", "rules", r"The ice is (slippery|not slippery):", _ice),
    Fact("ice", "compact", r"\A(slippery\n|)", lambda game: ["slippery\n" if _slips(game) else ""]),
    Fact("neighbours", "full", r"(\nAround you: .*|)\Z", _around),
    Fact("neighbours", "compact", r"(\nAround you: .*|)\Z", _around),
    Fact("step limit", "full", r"At most (\d+) moves", lambda game: [game.max_steps]),
    Fact("step limit", "rules", r"at most (\d+) moves", lambda game: [game.max_steps]),
    Fact(
        "board",
        "full",
        r"You are .*\n((?:.|\n)*?)(?:\nAround .*)?\Z",
        lambda game: ["\n".join(map(" ".join, _drawing(game)))],
    ),
    Fact(
        "board",
        "compact",
        r"\A(?:slippery\n)?((?:.|\n)*?)(?:\nAround .*)?\Z",
        lambda game: ["\n".join(map(_cells, _drawing(game)))],
    ),
)


class FrozenLake(TextMediatedStochasticGame):
    """Walk from the top left to the goal at the bottom right; a hole ends the walk. +1 at the goal, else 0."""

    actions = ("left", "down", "right", "up")
    facts: ClassVar[Any] = _FACTS
    moves = Moves(_POSITION, dict(zip(actions, _MOVES, strict=True)), certain=lambda game: not _slips(game))
    reward_range = (0.0, 1.0)

    def __init__(
        self, size: int = 4, p: float = 0.8, slippery: bool = False, max_steps: int = 8, look_around: bool = False
    ) -> None:
        """`look_around`: the text ends with what the four neighbours are, for models that do not read a drawing."""
        if not 2 <= size <= _LARGEST:
            raise ValueError(f"size={size}: must be between 2 and {_LARGEST}")
        if not _SPARSEST <= p <= 1.0:
            raise ValueError(f"p={p}: must be between {_SPARSEST} and 1; with less ice a map with a way is never found")
        super().__init__(max_steps)
        self.size, self.p, self.slippery, self.look_around = size, p, slippery, look_around
        self.board: Board = ()
        self.cell = 0

    def new_game(self, rng: np.random.Generator) -> None:
        seed = int(rng.integers(2**31))
        self.board = tuple(generate_random_map(size=self.size, p=self.p, seed=seed))
        self.cell = 0

    def play(self, action: str) -> tuple[float, str | None]:
        outcomes = _table(self.board, self.slippery)[self.cell][self.actions.index(action)]
        index = categorical_sample([probability for probability, *_ in outcomes], self.np_random)
        _, self.cell, reward, ended = outcomes[index]
        return float(reward), ("goal" if self.success else "hole") if ended else None

    @property
    def success(self) -> bool:
        return self._tile(self.cell) == "G"

    def state_key(self) -> bytes:
        return f"{''.join(self.board)}@{self.cell}".encode()

    def state(self) -> LakeState:
        return self.board, self.slippery, self.cell

    def place(self, state: LakeState) -> None:
        self.board, self.slippery, self.cell = state

    def transitions(self, state: LakeState, action: str) -> list[Transition]:
        board, slippery, cell = state
        outcomes = _table(board, slippery)[cell][self.actions.index(action)]
        return [(chance, (board, slippery, after), float(reward), ended) for chance, after, reward, ended in outcomes]

    def greedy_action(self) -> str:
        """The first move of a shortest safe path, as if the ice were dry; the first action where there is none."""
        paths = self.shortest_moves()
        return paths[0] if paths else self.actions[0]

    def shortest_moves(self) -> list[str]:
        """Every move that begins a shortest path over frozen cells to the goal."""
        distance = _distances(self.board)
        here = distance.get(self.cell)
        return [
            name
            for name, cell in zip(self.actions, self._neighbours(), strict=True)
            if here is not None and cell is not None and distance.get(cell) == here - 1
        ]

    def _neighbours(self) -> list[int | None]:
        return [_neighbour(self.cell, move, self.size) for move in _MOVES]

    def _tile(self, cell: int) -> str:
        return self.board[cell // self.size][cell % self.size]

    def _symbols(self) -> list[list[str]]:
        grid = [[_SYMBOLS[tile] for tile in row] for row in self.board]
        grid[self.cell // self.size][self.cell % self.size] = "P"
        return grid

    def describe(self, observation: Observation = "full") -> str:
        text = self._compact() if observation == "compact" else self._full()
        return f"{text}\n{self._surroundings()}" if self.look_around else text

    def _surroundings(self) -> str:
        symbols = list(itertools.chain.from_iterable(self._symbols()))
        said = [
            f"{name} {_OFF if cell is None else _WORDS[symbols[cell]]}"
            for name, cell in zip(self.actions, self._neighbours(), strict=True)
        ]
        return f"Around you: {', '.join(said)}."

    def _compact(self) -> str:
        width = 1 if self.size < _PAIR_FROM else 2
        lines = [
            " ".join("".join(row[start : start + width]) for start in range(0, self.size, width))
            for row in self._symbols()
        ]
        return "\n".join(["slippery", *lines] if self.slippery else lines)

    def _full(self) -> str:
        holes = [cell for cell in range(self.size**2) if self._tile(cell) == "H"]
        places = ", ".join(map(self._coordinates, holes)) if holes else "none"
        goal = next(cell for cell in range(self.size**2) if self._tile(cell) == "G")
        grid = "\n".join(" ".join(row) for row in self._symbols())
        return (
            f"Board: {self.size} rows and {self.size} columns. A position is (row, column); "
            f"(0, 0) is the top left cell, the row grows downwards, the column to the right.\n"
            f"The ice is {'slippery' if self.slippery else 'not slippery'}. "
            f"At most {counted(self.max_steps, 'move')}.\n"
            f"Legend: P you, G goal, O hole, . frozen.\n"
            f"The goal is at {self._coordinates(goal)}. Holes: {places}.\n"
            f"You are at {self._coordinates(self.cell)}.\n{grid}"
        )

    def rules(self) -> str:
        ice = (
            "The ice is slippery: with probability 1/3 you move in the direction you chose, "
            "and with probability 1/3 each in one of the two directions at right angles to it."
            if self.slippery
            else "The ice is not slippery: you always move in the direction you choose."
        )
        return (
            "You walk over a frozen lake. Each move takes you to a neighbouring cell; a move off the board leaves you "
            f"where you are. Reaching the goal wins (reward 1), a hole ends the walk (reward 0). {ice} "
            f"You have at most {counted(self.max_steps, 'move')}."
        )

    def _coordinates(self, cell: int) -> str:
        return f"({cell // self.size}, {cell % self.size})"


def _neighbour(cell: int, move: tuple[int, int], size: int) -> int | None:
    row, column = cell // size + move[0], cell % size + move[1]
    return row * size + column if 0 <= row < size and 0 <= column < size else None


@lru_cache(maxsize=4096)
def _distances(board: Board) -> dict[int, int]:
    """Moves from each cell to the goal over frozen cells (breadth first from the goal)."""
    size, tiles = len(board), "".join(board)
    queue = deque([tiles.index("G")])
    distance = {queue[0]: 0}
    while queue:
        cell = queue.popleft()
        for move in _MOVES:
            after = _neighbour(cell, move, size)
            if after is not None and after not in distance and tiles[after] != "H":
                distance[after] = distance[cell] + 1
                queue.append(after)
    return distance
