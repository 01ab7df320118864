"""What `msgrpo env check` asks of the moves that a game calls legal: that they can be played, and tell no secret.

Knows games, their states and their moves. Knows nothing about single games, models or files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgrpo_cli.common.numbers import counted
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.core import KnownDynamics, is_illegal, legal_moves
from msgrpo_cli.games.guard import BrokenPromise, checked_outcome, reason
from msgrpo_cli.games.registry import GameSpec, make_game

from .visits import OBSERVATIONS, Fault, Game, Visit, again, visits

_TRIED = 100  # states in which every legal move is played
_WHO = "a look at its moves"


def legal_lists(env: GameSpec) -> str:
    """Equal states, and equal texts, have equal lists; every move can be played; exact play knows the same moves."""
    game = make_game(env)
    if not game.limits_moves and game.actions is not None:
        return "every action is a move of every state"
    of_state: dict[tuple[int, bytes], tuple[str, ...]] = {}
    of_text: dict[tuple[str, str], tuple[tuple[str, ...], Visit]] = {}
    there = []
    shares = []
    otherwise: str | None = None  # what is wrong beside the lists themselves
    for visit, game in _visited(env):
        moves = legal_moves(game, _WHO)
        place = _place(visit)
        if of_state.setdefault((game.elapsed, game.state_key()), moves) != moves:
            raise Fault(f"equal keys, unequal lists of legal(): {moves!r} {place}, where another game has other moves")
        for shown in OBSERVATIONS:
            before, first = of_text.setdefault((shown, game.describe(shown)), (moves, visit))
            if before != moves:
                raise Fault(
                    f"legal() tells what the {shown} text hides: {moves!r} {place}, {before!r} {_place(first)}, which "
                    "reads the same; let it follow from what is shown"
                )
        otherwise = otherwise or _players(game, place) or _exact(game, moves, place)
        there.append((visit, moves))
        shares.append(len(moves) / len(game.actions) if game.actions else None)
    if otherwise:
        raise Fault(otherwise)
    played = _every_move(env, there)
    known = [share for share in shares if share is not None]
    part = f"{sum(known) / len(known):.0%} of the actions" if known else "free text, some moves of which are known"
    states = counted(len({key for _, key in of_state}), "state")
    return f"{part}, in {states}; each of {counted(played, 'move')} could be played"


def played_legally(game: Game) -> Game:
    """Gymnasium draws any action of the space, before it knows the state: an illegal one stands for the first legal."""
    play = game.play

    def kept_to_moves(action: str) -> tuple[float, str | None]:
        moves = legal_moves(game, "gymnasium's own check")
        return play(action if action in moves else moves[0])

    game.play = kept_to_moves  # type: ignore[method-assign]
    return game


def _visited(env: GameSpec) -> Iterator[tuple[Visit, Game]]:
    """Like `visits`; what the game raises there, it raises at a legal move."""
    visit = None
    try:
        for visit, game in visits(env):
            yield visit, game
    except (BrokenPromise, UsageError):
        raise
    except Exception as problem:  # a user's game may raise anything
        where = _place(visit) if visit else "at its first start"
        raise Fault(f"a legal move cannot be played {where}: {reason(problem)}") from problem


def _players(game: Game, place: str) -> str | None:
    for name, action in (("greedy_action()", game.greedy_action()), ("search_action()", game.search_action())):
        if action is not None and is_illegal(game, action):
            return f"{name} is {action!r} {place}, which is no move of legal()"
    return None


def _exact(game: Game, moves: tuple[str, ...], place: str) -> str | None:
    game = game.present
    if not isinstance(game, KnownDynamics) or (told := game.legal_in(game.state())) == moves:
        return None
    return f"legal_in(state()) is {told!r} {place}, legal() {moves!r}"


def _every_move(env: GameSpec, there: Iterable[tuple[Visit, tuple[str, ...]]]) -> int:
    """Go back to some of the states, to as many as there is time for, and play each of their moves."""
    game, tried = make_game(env), 0
    seen = list(there)
    for visit, moves in seen[:: max(1, len(seen) // _TRIED)]:
        for move in moves:
            again(game, visit)
            if game.legal() != moves:
                raise Fault(f"legal() is {game.legal()!r} {_place(visit)}, and was {moves!r} in another game")
            try:
                checked_outcome(game.take(move))
            except Exception as problem:  # a user's game may raise anything
                raise Fault(f"the legal move {move!r} cannot be played {_place(visit)}: {reason(problem)}") from problem
            tried += 1
    return tried


def _place(visit: Visit) -> str:
    return f"(seed {visit.seed} after {counted(len(visit.actions), 'move')})"
