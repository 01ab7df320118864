"""Snake, as text: one snake is yours, the game moves the others; all move at once.

Knows the board, its words and its geometry. Knows nothing about tokens, models or training.
A cell is (x, y); (0, 0) is the bottom left one, x grows to the right, y grows upwards.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from msgrpo_cli.common.numbers import counted

from ..core import Observation, TextMediatedStochasticGame
from ..facts import Moves
from .board import MOVES, POISON, Body, Cell, distance, moved
from .facts import FACTS, HEAD
from .opponents import checkpoint_opponent, is_opponent
from .players import best_route, greedy_moves

_LARGEST = 20
_APPLE, _BANANA = "apple", "banana"
_WORTH = {_APPLE: 1.0, POISON: -1.0, _BANANA: 2.0}
_SYMBOL = {_APPLE: "A", POISON: "X", _BANANA: "B"}
_PLURAL = {_APPLE: "Apples", POISON: "Poison apples", _BANANA: "Bananas"}
_DEATH = -1.0


class Snake(TextMediatedStochasticGame):
    """Eat apples, stay alive. +1 an apple, which makes the snake longer by one cell and comes up anew elsewhere.

    Every snake that lives moves one cell at once. One dies whose head leaves the board, or enters a cell that any snake
    covered before the move (its tail included), or meets another head. A dead snake leaves the board and eats nothing.
    The game ends when yours is dead, or, where there are opponents, when it is the last one. Dying costs 1 and
    `death_reward` more. [authors: size, apples, rewards, collisions, tail; ours: poison, bananas, several opponents]
    """

    actions = tuple(MOVES)
    facts: ClassVar[Any] = FACTS
    moves = Moves(HEAD, MOVES)
    evaluation_keys: ClassVar[Mapping[str, Any]] = {"step_reward": 0.0}

    def __init__(
        self,
        size: int = 10,
        apples: int = 5,
        opponents: int = 1,
        opponent: str = "random",
        poison_apples: int = 0,
        bananas: int = 0,
        death_reward: float = -2.0,
        step_reward: float = -0.01,
        max_steps: int = 20,
    ) -> None:
        if not 3 <= size <= _LARGEST:
            raise ValueError(f"size={size}: must be between 3 and {_LARGEST}")
        if opponent not in ("random", "greedy") and not is_opponent(opponent):
            raise ValueError(f"opponent={opponent}: must be random, greedy, or a checkpoint (RUN/checkpoints/...)")
        counts = {"apples": apples, "opponents": opponents, "poison_apples": poison_apples, "bananas": bananas}
        for name, count in counts.items():
            if count < 0:
                raise ValueError(f"{name}={count}: must be at least 0")
        if sum(counts.values()) + 1 > size**2 // 2:
            most = max(counts, key=lambda name: counts[name])
            raise ValueError(f"{most}={counts[most]}: at most half of the {size}x{size} cells may be taken")
        super().__init__(max_steps)
        self.size, self.opponents, self.opponent = size, opponents, opponent
        self.death_reward, self.step_reward = death_reward, step_reward
        self._food_counts = {_APPLE: apples, POISON: poison_apples, _BANANA: bananas}
        self.reward_range = (
            step_reward + min(_WORTH[POISON], _DEATH + death_reward),
            step_reward + max(_WORTH[_BANANA], _DEATH + death_reward),
        )
        self.bodies: list[Body] = []
        """Yours first; an empty one is dead."""
        self.food: dict[Cell, str] = {}
        self.apples_eaten = [0] * (1 + opponents)
        """By each snake."""

    def new_game(self, rng: np.random.Generator) -> None:
        kinds = [kind for kind, count in self._food_counts.items() for _ in range(count)]
        cells = self._cells()
        chosen = rng.choice(len(cells), size=1 + self.opponents + len(kinds), replace=False)
        places = [cells[int(number)] for number in chosen]
        self.bodies = [(place,) for place in places[: 1 + self.opponents]]
        self.food = dict(zip(places[1 + self.opponents :], kinds, strict=True))
        self.apples_eaten = [0] * (1 + self.opponents)

    def play(self, action: str) -> tuple[float, str | None]:
        """The others choose too, then all move at once."""
        others = {number: self._opponent_move(number) for number, body in enumerate(self.bodies) if number and body}
        reward, death = self.turn({0: action} | others)[0]
        alone = self.opponents > 0 and not any(self.bodies[1:])
        return reward, death or ("last snake alive" if alone else None)

    def turn(self, moves: Mapping[int, str]) -> dict[int, tuple[float, str | None]]:
        """Every snake that lives moves: deaths are found, bodies move, what was eaten comes up anew.

        Returns what each is paid, and how it died, where it did.
        """
        heads = {number: moved(self.bodies[number][0], move) for number, move in moves.items()}
        covered = {cell: number for number, body in enumerate(self.bodies) for cell in body}
        deaths = {number: self._death(number, heads, covered) for number in heads}
        eaten = {number: self._move(number, head, dead=deaths[number] is not None) for number, head in heads.items()}
        for kind in filter(None, eaten.values()):
            self._bring(kind)
        for number, what in eaten.items():
            self.apples_eaten[number] += what == _APPLE
        lost = _DEATH + self.death_reward
        return {
            number: (self.step_reward + (_WORTH.get(eaten[number] or "", 0.0) if death is None else lost), death)
            for number, death in deaths.items()
        }

    def _death(self, number: int, heads: Mapping[int, Cell], covered: Mapping[Cell, int]) -> str | None:
        """How a snake dies by its move; None where it lives."""
        head = heads[number]
        if not self.inside(head):
            return "wall"
        if head in covered:
            return "own body" if covered[head] == number else "other body"
        if any(head == other for rival, other in heads.items() if rival != number):
            return "head to head"
        return None

    def _move(self, number: int, head: Cell, *, dead: bool) -> str | None:
        """Move a snake, or take it off the board; returns what it ate."""
        if dead:
            self.bodies[number] = ()
            return None
        kind = self.food.pop(head, None)
        body = (head, *self.bodies[number])
        lost = {None: 1, POISON: 2}.get(kind, 0)
        self.bodies[number] = body[: max(1, len(body) - lost)]
        return kind

    def _bring(self, kind: str) -> None:
        """Something to eat on a free cell, where there is one."""
        taken = {*self.food, *(cell for body in self.bodies for cell in body)}
        if free := [cell for cell in self._cells() if cell not in taken]:
            self.food[free[int(self.np_random.integers(len(free)))]] = kind

    def _opponent_move(self, number: int) -> str:
        if self.opponent == "greedy":
            return greedy_moves(self, number)[0]
        if self.opponent != "random":
            return checkpoint_opponent(self.opponent)(self.seen_by(number), self.np_random)
        head, body = self.bodies[number][0], self.bodies[number]
        able = [
            name for name in self.actions if self.inside(cell := moved(head, name)) and cell not in body
        ] or self.actions
        return able[int(self.np_random.integers(len(able)))]

    def seen_by(self, number: int) -> Snake:
        """The same board, told to another snake as its own; to look at, not to play."""
        view = copy.copy(self)
        view.bodies = [self.bodies[number], *self.bodies[:number], *self.bodies[number + 1 :]]
        return view

    @property
    def success(self) -> None:
        """Snake declares none: the score is the total reward."""
        return None

    def game_metrics(self) -> dict[str, float]:
        """`apples` eaten; `length` of the snake, 0 when dead; `alive`."""
        return {
            "apples": float(self.apples_eaten[0]),
            "length": float(len(self.bodies[0])),
            "alive": float(bool(self.bodies[0])),
        }

    def state_key(self) -> bytes:
        return repr((self.bodies, sorted(self.food.items()))).encode()

    # Reference players
    def greedy_action(self) -> str:
        """The first of `greedy_moves`."""
        return greedy_moves(self)[0]

    def search_action(self) -> str:
        """The first of the moves towards the first cell of `best_route`; the heuristic's where there is no route."""
        return greedy_moves(self, wanted=best_route(self)[:1] or None)[0]

    # Words

    def describe(self, observation: Observation = "full") -> str:
        return self._compact() if observation == "compact" else self._full()

    def _compact(self) -> str:
        """Where the own head is, and from there how far to the right and upwards all else lies, the nearest first.

        Bodies are the moves that lead from head to tail.
        """
        own, *others = self.bodies
        if not own:
            return "you"
        lines = [" ".join(["you", *map(str, own[0]), *_way(own)])]
        lines += [" ".join(["other", *self._offset(body[0]), *_way(body)]) for body in others if body]
        for kind in self._food_counts:
            if cells := sorted(self._food_of(kind), key=partial(distance, self.bodies[0][0])):
                lines.append(" ".join([kind.split()[0], *(part for cell in cells for part in self._offset(cell))]))
        return "\n".join(lines)

    def _offset(self, cell: Cell) -> tuple[str, str]:
        """From the own head, with signs."""
        (x, y), *_ = self.bodies[0]
        return f"{cell[0] - x:+d}", f"{cell[1] - y:+d}"

    def _full(self) -> str:
        own, others = self.bodies[0], [body for body in self.bodies[1:] if body]
        there = [kind for kind in self._food_counts if self._there(kind)]
        legend = ["H your head", "S your body"]
        legend += ["E head of another snake", "e its body"] if self.opponents else []
        legend += [f"{_SYMBOL[kind]} {kind}" for kind in there]
        lines = [
            f"Board: {self.size} by {self.size} cells. A position is (x, y); (0, 0) is the bottom left cell, "
            "x grows to the right, y grows upwards.",
            f"Legend: {', '.join(legend)}, . free.",
            *(f"{_PLURAL[kind]}: {_listed(self._food_of(kind))}." for kind in there),
            f"Your snake: head at {own[0]}, body: {_listed(own[1:])}." if own else "Your snake is dead.",
            *(f"Other snake: head at {body[0]}, body: {_listed(body[1:])}." for body in others),
        ]
        return "\n".join([*lines, self._grid()])

    def _grid(self) -> str:
        symbols = {cell: _SYMBOL[kind] for cell, kind in self.food.items()}
        for number, body in enumerate(self.bodies):
            symbols |= dict.fromkeys(body[1:], "e" if number else "S")
            symbols |= dict.fromkeys(body[:1], "E" if number else "H")
        rows = [[symbols.get((x, y), ".") for x in range(self.size)] for y in reversed(range(self.size))]
        return "\n".join(" ".join(row) for row in rows)

    def rules(self) -> str:
        """What the step costs in training is not told, so that training and evaluation read the same prompt."""
        others = ["", "Another snake moves at the same time.", f"{self.opponents} other snakes move at the same time."]
        sentences = [
            f"You are a snake on a board of {self.size} by {self.size} cells; each move takes your head one cell "
            "up, down, left or right, and your body follows.",
            others[min(self.opponents, 2)],
            f"Eating an apple gives {_WORTH[_APPLE]:g} and makes you one cell longer.",
            f"A poison apple gives {_WORTH[POISON]:g} and makes you one cell shorter." if self._there(POISON) else "",
            f"A banana gives {_WORTH[_BANANA]:g} and makes you one cell longer." if self._there(_BANANA) else "",
            "You die where your head leaves the board or enters a cell of a body, your own last cell included"
            + (", or the cell that another head enters." if self.opponents else "."),
            f"Dying gives {_DEATH + self.death_reward:g} and ends the game.",
            "The game ends, too, when yours is the only snake left." if self.opponents else "",
            f"It has at most {counted(self.max_steps, 'move')}.",
        ]
        return " ".join(filter(None, sentences))

    def _there(self, kind: str) -> bool:
        return self._food_counts[kind] > 0

    def _food_of(self, kind: str) -> list[Cell]:
        return sorted(cell for cell, other in self.food.items() if other == kind)

    def inside(self, cell: Cell) -> bool:
        """Whether a cell lies on the board."""
        return 0 <= cell[0] < self.size and 0 <= cell[1] < self.size

    def _cells(self) -> list[Cell]:
        return [(x, y) for x in range(self.size) for y in range(self.size)]


def _listed(cells: Iterable[Cell]) -> str:
    return ", ".join(map(str, cells)) or "none"


def _way(body: Body) -> list[str]:
    """The moves that lead along a body from the head to the tail."""
    names = {change: name for name, change in MOVES.items()}
    return [names[after[0] - before[0], after[1] - before[1]] for before, after in pairwise(body)]
