"""Snake's reference players: a heuristic, and a search for the best way through the apples in sight.

Knows boards, what lies on them and what kills. Knows nothing about rewards, words or how a move is played.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from functools import partial
from itertools import permutations

from .board import MOVES, POISON, Board, Cell, distance, moved

_ROUTE = 5


def greedy_moves(game: Board, number: int = 0, wanted: Collection[Cell] | None = None) -> list[str]:
    """Every first move of a shortest way to a wanted cell, past everything that kills or costs now.

    Cells that another head could enter are avoided where there is a choice; without a way, the moves with most room
    behind them; all moves where the snake is dead or must die. `number` is the snake's, 0 the own; `wanted` are by
    default the cells of all apples and bananas.
    """
    if not game.bodies[number]:
        return list(MOVES)
    taken = {cell for body in game.bodies for cell in body}
    poison = {cell for cell, kind in game.food.items() if kind == POISON}
    contested = {
        moved(body[0], name) for rival, body in enumerate(game.bodies) if rival != number and body for name in MOVES
    }
    head = game.bodies[number][0]
    if wanted is None:
        wanted = game.food.keys() - poison
    for avoided in (taken | poison | contested, taken | poison, taken):
        open_moves = [name for name in MOVES if game.inside(cell := moved(head, name)) and cell not in avoided]
        if open_moves:
            moves_left = _reach(game, wanted, taken | poison)
            ways = {name: moves_left.get(moved(head, name)) for name in open_moves}
            if near := {name: way for name, way in ways.items() if way is not None}:
                return [name for name, way in near.items() if way == min(near.values())]
            room = {name: len(_reach(game, [moved(head, name)], taken | poison)) for name in open_moves}
            return [name for name in open_moves if room[name] == max(room.values())]
    return list(MOVES)


def best_route(game: Board) -> list[Cell]:
    """Cells in the order in which they are best eaten; empty where none can be reached within the moves that are left.

    Budget: every order of the five nearest apples and bananas, 120 at most, by distances over an empty board. Most
    eaten wins, then fewest moves; what comes up later is not reckoned with.
    """
    if not game.bodies[0]:
        return []
    edible = [cell for cell, kind in game.food.items() if kind != POISON]
    nearest = sorted(edible, key=partial(distance, game.bodies[0][0]))[:_ROUTE]
    routes = (_in_time(game, [*order]) for order in permutations(nearest))
    return max(routes, key=lambda found: (len(found[0]), -found[1]))[0]


def _in_time(game: Board, route: list[Cell]) -> tuple[list[Cell], int]:
    """As much of a route as can be walked before the step limit, and its length in moves."""
    moves, at = 0, game.bodies[0][0]
    for number, cell in enumerate(route):
        further = distance(at, cell)
        if moves + further > game.max_steps - game.elapsed:
            return route[:number], moves
        moves, at = moves + further, cell
    return route, moves


def _reach(game: Board, starts: Iterable[Cell], avoided: Collection[Cell]) -> dict[Cell, int]:
    """Moves from the nearest start to every cell that can be reached past the avoided ones (breadth first)."""
    found = dict.fromkeys(starts, 0)
    queue = deque(found)
    while queue:
        cell = queue.popleft()
        for move in MOVES:
            after = moved(cell, move)
            if game.inside(after) and after not in avoided and after not in found:
                found[after] = found[cell] + 1
                queue.append(after)
    return found
