"""Whom the embedded base of games of several players imitates: who errs systematically at Kuhn poker and tic-tac-toe.

Knows seats, and how these two games are played badly. Knows nothing about tokens, models or MS-GRPO.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from msgrpo_cli.games.seats import SeatView

from .demonstrations import Player, mixed

KUHN = "openspiel_seats"
TIC_TAC_TOE = "openspiel_seats env.game=tic_tac_toe env.max_steps=9"
_LINES = ("012", "345", "678", "036", "147", "258", "048", "246")  # cells in reading order


def kuhn_player(seat: SeatView) -> np.ndarray:
    """Mostly bets whatever it holds, at times as its card says: with the highest alone."""
    highest = seat.describe("compact").startswith("2")
    return mixed(seat, "bet", 0.5, ["bet" if highest else "pass"], 0.25)


def tic_tac_toe_player(seat: SeatView) -> np.ndarray:
    """Mostly takes the first free cell in reading order, at times wins, else stops the other, else takes the centre."""
    board = seat.describe("compact").replace("\n", "")
    moves = dict(zip([cell for cell in range(9) if board[cell] == "."], seat.legal(), strict=True))
    own, other = ("x", "o") if seat.player == 0 else ("o", "x")
    good = _completing(board, own) or _completing(board, other) or ({4} & moves.keys()) or moves.keys()
    return mixed(seat, seat.legal()[0], 0.5, [moves[cell] for cell in sorted(good)], 0.25)


def _completing(board: str, mark: str) -> set[int]:
    """The free cells that complete a line of three of this mark."""
    lines = [[int(cell) for cell in line] for line in _LINES]
    return {
        next(cell for cell in line if board[cell] == ".")
        for line in lines
        if sorted(board[cell] for cell in line) == sorted([".", mark, mark])
    }


SEATED: Mapping[str, Player] = {KUHN: kuhn_player, TIC_TAC_TOE: tic_tac_toe_player}
"""By game."""
