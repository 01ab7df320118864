"""Sokoban's rules, on boards drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from msgrpo_cli.games.sokoban import Sokoban, solution


def drawn(drawing: str) -> Sokoban:
    """The game that a drawing shows, in the symbols of its own legend."""
    rows = [line.split() for line in drawing.strip().splitlines()]
    at = {(row, column): symbol for row, line in enumerate(rows) for column, symbol in enumerate(line)}

    def cells(symbols: str) -> frozenset[tuple[int, int]]:
        return frozenset(cell for cell, symbol in at.items() if symbol in symbols)

    game = Sokoban(size=len(rows), boxes=1)
    game.walls, game.goals, game.boxes = cells("#"), cells("o*+"), cells("$*")
    [game.player] = cells("@+")
    return game


ROOM = """
# # # # # #
# . . . . #
# @ $ . o #
# . # . . #
# . . . . #
# # # # # #
"""


def test_a_box_is_pushed_and_two_pushes_solve_the_room() -> None:
    game = drawn(ROOM)
    assert game.play("right") == (0.0, None)
    assert (game.player, game.boxes) == ((2, 2), {(2, 3)})
    assert game.play("right") == (1.0, "solved")
    assert game.success


def test_walls_and_second_boxes_stop_a_push() -> None:
    for behind in "#$":
        game = drawn(f"# # # # #\n# @ $ {behind} #\n# o . o #\n# . . . #\n# # # # #")
        before = game.state_key()
        assert game.play("right") == (0.0, None)
        assert game.state_key() == before


def test_a_wall_stops_a_step_and_a_box_is_not_pulled() -> None:
    game = drawn(ROOM)
    game.play("left")
    assert game.player == (2, 1)
    game.play("up")
    assert (game.player, game.boxes) == ((1, 1), {(2, 2)})


def test_the_texts_draw_the_board_with_its_legend() -> None:
    drawing = "# # # # #\n# + $ . #\n# * . o #\n# . . . #\n# # # # #"
    game = drawn(drawing)
    assert game.describe("compact") == drawing
    assert "Goals: (1, 1), (2, 1), (2, 3). Boxes: (1, 2), (2, 1). You are at (1, 1)." in game.describe()


def test_solutions_are_shortest_and_a_box_in_a_corner_has_none() -> None:
    game = drawn(ROOM)
    assert solution(game.walls, game.goals, game.player, game.boxes) == ("right", "right")
    stuck = drawn("# # # # #\n# $ . . #\n# . @ o #\n# . . . #\n# # # # #")
    assert solution(stuck.walls, stuck.goals, stuck.player, stuck.boxes) is None
    assert stuck.greedy_action() == "up"


@pytest.mark.parametrize(("size", "boxes", "max_steps"), [(6, 1, 25), (6, 2, 30), (6, 1, 5)])
def test_every_board_is_solved_by_the_heuristic_within_the_moves(size: int, boxes: int, max_steps: int) -> None:
    game = Sokoban(size=size, boxes=boxes, max_steps=max_steps)
    starts = set()
    for seed in range(30):
        game.reset(seed=seed)
        assert not game.success
        starts.add(game.state_key())
        for _ in range(max_steps):
            _, reward, terminated, truncated, info = game.step(game.actions.index(game.greedy_action()))
            if terminated or truncated:
                break
        assert (reward, info["ended_by"]) == (1.0, "solved")
    assert len(starts) > 20


def test_a_board_that_cannot_be_had_is_refused() -> None:
    for keys, said in (({"size": 3}, "size=3"), ({"boxes": 4}, "boxes=4"), ({"size": 4, "boxes": 2}, "boxes=2")):
        with pytest.raises(ValueError, match=said):
            Sokoban(**keys)
    with pytest.raises(ValueError, match="max_steps=1: no board"):
        Sokoban(size=4, boxes=1, max_steps=1).new_game(Nothing())


class Nothing(np.random.Generator):
    """A generator that always draws walls."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def random(self, *_: object, **__: object) -> float:  # type: ignore[override]
        return 0.0
