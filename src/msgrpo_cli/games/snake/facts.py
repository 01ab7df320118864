"""What Snake's texts state, computed from its boards and never from its texts, for `msgrpo env check`.

Knows Snake's state and words. Knows nothing about its rules.
"""

from __future__ import annotations

from ..facts import Fact
from .board import Board

_SYMBOLS = {"apple": "A", "poison apple": "X", "banana": "B"}


def _own(game: Board) -> list[object]:
    """Head and body, as the text lists them."""
    own = game.bodies[0]
    return [own[0], ", ".join(map(str, own[1:])) or "none"] if own else [None, None]


def _kinds(game: Board, kind: str) -> list[str]:
    return [", ".join(str(cell) for cell in sorted(game.food) if game.food[cell] == kind) or "none"]


def _offsets(game: Board, kind: str) -> list[str | None]:
    """As the compact text lists them: from the own head, the nearest first, each to the right and upwards."""
    if not game.bodies[0]:
        return [None]
    (x, y), *_ = game.bodies[0]
    offsets = [(there[0] - x, there[1] - y) for there in sorted(game.food) if game.food[there] == kind]
    offsets.sort(key=lambda offset: sum(map(abs, offset)))
    return [" ".join(f"{number:+d}" for offset in offsets for number in offset) or None]


def _rivals(game: Board) -> list[str | None]:
    """The head of the first other snake that lives."""
    heads = [body[0] for body in game.bodies[1:] if body]
    if not game.bodies[0] or not heads:
        return [None]
    return [" ".join(f"{there - here:+d}" for here, there in zip(game.bodies[0][0], heads[0], strict=True))]


def _rows(game: Board) -> list[str]:
    """The board, from the top row down, as the legend has it."""
    rows = [["."] * game.size for _ in range(game.size)]
    for (x, y), kind in game.food.items():
        rows[y][x] = _SYMBOLS[kind]
    for body, (head, rest) in zip(game.bodies, [("H", "S"), *[("E", "e")] * game.opponents], strict=True):
        for number, (x, y) in enumerate(body):
            rows[y][x] = rest if number else head
    return ["\n".join(" ".join(row) for row in reversed(rows))]


HEAD = r"Your snake: head at \((\d+), (\d+)\)"
FACTS = (
    Fact("board size", "full", r"Board: (\d+) by (\d+) cells", lambda game: [game.size, game.size]),
    Fact("board size", "rules", r"board of (\d+) by (\d+) cells", lambda game: [game.size, game.size]),
    Fact("own snake", "full", r"Your snake(?:: head at (.*), body: (.*)| is dead)\.", _own),
    Fact("apples", "full", r"\nApples: (.*)\.", lambda game: _kinds(game, "apple")),
    Fact("board", "full", r"snake.*\.\n([^:]*)\Z", _rows),
    Fact("apple", "rules", r"apple gives (\S+)", lambda game: ["1"]),
    Fact("death", "rules", r"Dying gives (\S+)", lambda game: [f"{game.death_reward - 1:g}"]),
    Fact("step limit", "rules", r"at most (\d+) moves", lambda game: [game.max_steps]),
    Fact("apples", "compact", r"(?:\A|\n)(?:apple (.*)|\Z|you\Z)", lambda game: _offsets(game, "apple")),
    Fact("other head", "compact", r"\A.*(?:\nother (\S+ \S+)|)", _rivals),
    Fact(
        "own head",
        "compact",
        r"\A(?:you (\d+) (\d+))?",
        lambda game: game.bodies[0][0] if game.bodies[0] else [None, None],
    ),
)
