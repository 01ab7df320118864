"""Small games as trees: Kuhn poker, matching pennies, tic-tac-toe, a long corridor, and some that break promises."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

_LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


@dataclass(frozen=True)
class Kuhn:
    """Kuhn poker (Kuhn 1950): cards 0 < 1 < 2, an ante of 1, one bet of 1. History of p (pass) and b (bet)."""

    cards: tuple[int, int] | None = None
    history: str = ""
    players = 2
    perfect_information = False

    def chance(self) -> Sequence[tuple[float, Kuhn]]:
        deals = permutations(range(3), 2) if self.cards is None else ()
        return [(1 / 6, Kuhn((first, second))) for first, second in deals]

    def to_move(self) -> tuple[int, ...]:
        return () if self.cards is None or self._over else (len(self.history) % 2,)

    @property
    def _over(self) -> bool:
        return self.history in ("pp", "bp", "bb", "pbp", "pbb")

    def legal(self, player: int) -> tuple[str, ...]:
        return ("p", "b")

    def information_key(self, player: int) -> Hashable:
        assert self.cards is not None
        return self.cards[player], self.history

    def after(self, actions: Mapping[int, str]) -> Kuhn:
        [action] = actions.values()
        return replace(self, history=self.history + action)

    def rewards(self) -> Sequence[float]:
        if self.cards is None or not self._over:
            return 0.0, 0.0
        if self.history in ("bp", "pbp"):  # the one who passed last gives up the ante
            won = 1.0 if self.history == "bp" else -1.0
        else:
            won = (1.0 if self.cards[0] > self.cards[1] else -1.0) * (2.0 if self.history[-1] == "b" else 1.0)
        return won, -won

    def state_key(self) -> Hashable:
        return self.cards, self.history


def kuhn_equilibrium(alpha: float) -> list[dict[Hashable, dict[str, float]]]:
    """Kuhn's family, 0 <= alpha <= 1/3: how often the first seat bets with the lowest card."""

    def law(bet: float) -> dict[str, float]:
        return {"p": 1 - bet, "b": bet}

    first = {(0, ""): alpha, (1, ""): 0.0, (2, ""): 3 * alpha, (0, "pb"): 0.0, (1, "pb"): alpha + 1 / 3, (2, "pb"): 1.0}
    second = {(0, "p"): 1 / 3, (1, "p"): 0.0, (2, "p"): 1.0, (0, "b"): 0.0, (1, "b"): 1 / 3, (2, "b"): 1.0}
    return [{key: law(bet) for key, bet in of_seat.items()} for of_seat in (first, second)]


@dataclass(frozen=True)
class Pennies:
    """Matching pennies: both show a coin at once; the first seat wins what it stakes where they match."""

    shown: tuple[str, str] | None = None
    players = 2
    perfect_information = False

    def chance(self) -> Sequence[tuple[float, Pennies]]:
        return ()

    def to_move(self) -> tuple[int, ...]:
        return (0, 1) if self.shown is None else ()

    def legal(self, player: int) -> tuple[str, ...]:
        return ("heads", "tails")

    def information_key(self, player: int) -> Hashable:
        return ()

    def after(self, actions: Mapping[int, str]) -> Pennies:
        return Pennies((actions[0], actions[1]))

    def rewards(self) -> Sequence[float]:
        if self.shown is None:
            return 0.0, 0.0
        won = 1.0 if self.shown[0] == self.shown[1] else -1.0
        return won, -won

    def state_key(self) -> Hashable:
        return self.shown


@dataclass(frozen=True)
class TicTacToe:
    """Three in a row; nodes know the board alone."""

    board: str = "........."
    players = 2
    perfect_information = True

    def chance(self) -> Sequence[tuple[float, TicTacToe]]:
        return ()

    @property
    def _winner(self) -> str | None:
        return next(
            (self.board[a] for a, b, c in _LINES if self.board[a] == self.board[b] == self.board[c] != "."), None
        )

    def to_move(self) -> tuple[int, ...]:
        left = self.board.count(".")
        return () if self._winner or not left else ((9 - left) % 2,)

    def legal(self, player: int) -> tuple[str, ...]:
        return tuple(str(cell) for cell, mark in enumerate(self.board) if mark == ".")

    def information_key(self, player: int) -> Hashable:
        return self.board

    def after(self, actions: Mapping[int, str]) -> TicTacToe:
        [(player, cell)] = actions.items()
        return TicTacToe(self.board[: int(cell)] + "xo"[player] + self.board[int(cell) + 1 :])

    def rewards(self) -> Sequence[float]:
        won = {"x": 1.0, "o": -1.0, None: 0.0}[self._winner]
        return won, -won

    def state_key(self) -> Hashable:
        return self.board


@dataclass(frozen=True)
class Corridor:
    """Seats take turns to go on or to stop, and each step on pays the one who goes 1 at the other's cost."""

    length: int
    place: int = 0
    stopped: bool = False
    forgetful: bool = False
    players = 2

    @property
    def perfect_information(self) -> bool:
        return not self.forgetful

    def chance(self) -> Sequence[tuple[float, Corridor]]:
        return ()

    def to_move(self) -> tuple[int, ...]:
        return () if self.stopped or self.place == self.length else (self.place % 2,)

    def legal(self, player: int) -> tuple[str, ...]:
        return ("on", "stop")

    def information_key(self, player: int) -> Hashable:
        return "somewhere" if self.forgetful else self.place

    def after(self, actions: Mapping[int, str]) -> Corridor:
        [action] = actions.values()
        return replace(self, place=self.place + 1) if action == "on" else replace(self, stopped=True)

    def rewards(self) -> Sequence[float]:
        if self.stopped or not self.place:
            return 0.0, 0.0
        paid = 1.0 if self.place % 2 else -1.0
        return paid, -paid

    def state_key(self) -> Hashable:
        return self.place, self.stopped
