"""Snake's rules, on boards drawn by hand.

A drawing shows rows from the top: H and S are your head and body, E and e the other snake's, A an apple, X a poison
apple, B a banana. A body of more than one cell is given beside the drawing, from head to tail.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from msgrpo_cli.episode import Start
from msgrpo_cli.games.snake.board import Cell
from msgrpo_cli.games.snake.game import Snake
from msgrpo_cli.rollout.play import PlayRules, play_episodes
from msgrpo_cli.rollout.players import GreedyPlayer, RandomPlayer, SearchPlayer

_FOOD = {"A": "apple", "X": "poison apple", "B": "banana"}


def drawn(drawing: str, own: list[Cell] | None = None, other: list[Cell] | None = None, **keys: Any) -> Snake:
    """The game that a drawing shows."""
    rows = [line.split() for line in drawing.strip().splitlines()]
    size = len(rows)
    at = {(x, size - 1 - row): symbol for row, line in enumerate(rows) for x, symbol in enumerate(line)}
    game = Snake(**{"size": size, "apples": 1, "opponents": int("E" in at.values()), **keys})
    game.reset(seed=0)
    game.bodies = [tuple(own or [cell for cell, symbol in at.items() if symbol == "H"])]
    if "E" in at.values():
        game.bodies.append(tuple(other or [cell for cell, symbol in at.items() if symbol == "E"]))
    game.food = {cell: _FOOD[symbol] for cell, symbol in at.items() if symbol in _FOOD}
    return game


def other_moves(game: Snake, move: str) -> Snake:
    """The other snake makes this move next, wherever it leads."""
    game._opponent_move = lambda number: move  # type: ignore[method-assign]
    return game


def test_coordinates_begin_at_the_bottom_left_and_up_is_more_y() -> None:
    game = drawn("""
        . . .
        . . .
        H . A
    """)
    assert game.bodies[0] == ((0, 0),)
    game.play("up")
    assert game.bodies[0] == ((0, 1),)
    game.play("right")
    assert game.bodies[0] == ((1, 1),)
    game.play("down")
    game.play("left")
    assert game.bodies[0] == ((0, 0),)


@pytest.mark.parametrize("move", ["left", "down"])
def test_leaving_the_board_kills(move: str) -> None:
    game = drawn("""
        . . .
        . . A
        H . .
    """)
    assert game.play(move) == (pytest.approx(-0.01 - 1 - 2), "wall")
    assert game.bodies[0] == ()


def test_an_apple_is_worth_one_lengthens_the_snake_and_comes_up_elsewhere() -> None:
    game = drawn("""
        . . . .
        . . . .
        H A . .
        . . . .
    """)
    assert game.play("right") == (pytest.approx(1 - 0.01), None)
    assert game.bodies[0] == ((1, 1), (0, 1))
    assert list(game.food.values()) == ["apple"]
    assert not set(game.food) & {(1, 1), (0, 1)}
    assert game.game_metrics() == {"apples": 1.0, "length": 2.0, "alive": 1.0}


def test_the_body_follows_the_head() -> None:
    game = drawn("""
        . . . .
        H S . .
        . S . .
        . . . A
    """, own=[(0, 2), (1, 2), (1, 1)])  # fmt: skip
    assert game.play("up")[1] is None
    assert game.bodies[0] == ((0, 3), (0, 2), (1, 2))


def test_the_last_cell_of_the_own_body_counts_as_taken() -> None:
    game = drawn("""
        . . . .
        . H S .
        . S S .
        A . . .
    """, own=[(1, 2), (2, 2), (2, 1), (1, 1)])  # fmt: skip
    assert game.play("down")[1] == "own body"


def test_a_snake_of_one_cell_may_turn_back_and_a_longer_one_may_not() -> None:
    assert drawn(". . .\n. H .\nA . .").play("left")[1] is None
    two = drawn(". . .\n. H S\nA . .", own=[(1, 1), (2, 1)])
    assert two.play("right")[1] == "own body"


def test_the_last_cell_of_another_body_counts_as_taken() -> None:
    game = drawn("""
        . . . .
        H e E .
        . . . .
        A . . .
    """, other=[(2, 2), (1, 2)])  # fmt: skip
    assert other_moves(game, "right").play("right")[1] == "other body"
    assert game.bodies[1] == ((3, 2), (2, 2))


def test_a_single_cell_that_moves_away_was_taken_all_the_same() -> None:
    game = drawn(". . . .\nH E . .\n. . . .\nA . . .")
    assert other_moves(game, "right").play("right")[1] == "other body"


def test_heads_that_meet_kill_both_and_nobody_eats() -> None:
    game = drawn("""
        . . . .
        H A E .
        . . . .
        . . . .
    """)
    assert other_moves(game, "left").play("right") == (pytest.approx(-3.01), "head to head")
    assert game.bodies == [(), ()]
    assert game.food == {(1, 2): "apple"}


def test_heads_that_change_places_kill_both() -> None:
    game = drawn(". . . .\nH E . .\n. . . .\nA . . .")
    assert other_moves(game, "left").play("right")[1] == "other body"
    assert game.bodies == [(), ()]


def test_the_last_snake_alive_ends_the_game_and_keeps_what_it_ate() -> None:
    game = drawn("""
        E . . .
        . . . .
        H A . .
        . . . .
    """)
    assert other_moves(game, "up").play("right") == (pytest.approx(1 - 0.01), "last snake alive")
    assert game.bodies[1] == ()


def test_without_opponents_the_game_goes_on_alone() -> None:
    game = drawn(". . .\n. H .\nA . .", opponents=0)
    assert game.play("up")[1] is None
    assert "snake" not in game.describe().split("Your snake")[1].lower()
    assert "other" not in game.rules().lower()


def test_the_other_snake_eats_and_grows() -> None:
    game = drawn("""
        . . . .
        H . . .
        . . . .
        . . E A
    """)
    assert other_moves(game, "right").play("up") == (pytest.approx(-0.01), None)
    assert game.bodies[1] == ((3, 0), (2, 0))
    assert len(game.food) == 1


def test_what_comes_up_again_lies_on_a_cell_that_is_free_after_all_moves() -> None:
    came_up: set[Cell] = set()
    for seed in range(60):
        game = drawn("""
            . S S
            H A S
            E e e
        """, own=[(0, 1), (0, 1)], other=[(0, 0), (1, 0), (2, 0)])  # fmt: skip
        game.bodies[0] = ((0, 1),)
        game.bodies[1] = ((0, 0), (1, 0), (2, 0))
        game.np_random = np.random.default_rng(seed)
        other_moves(game, "left").play("right")
        came_up |= set(game.food)
    assert came_up == {(0, 0), (1, 0), (2, 0), (0, 2), (1, 2), (2, 2), (2, 1)}  # all but (1, 1) and (0, 1)


@pytest.mark.parametrize(("symbol", "worth", "length"), [("X", -1.0, 1), ("B", 2.0, 3)], ids=["poison apple", "banana"])
def test_poison_shortens_and_a_banana_counts_double(symbol: str, worth: float, length: int) -> None:
    game = drawn(f". . .\nS H {symbol}\nA . .", own=[(1, 1), (0, 1)], poison_apples=1, bananas=1)
    assert game.play("right") == (pytest.approx(worth - 0.01), None)
    assert len(game.bodies[0]) == length
    assert game.bodies[0][0] == (2, 1)
    assert game.apples_eaten[0] == 0


def test_poison_never_takes_the_last_cell() -> None:
    game = drawn(". . .\n. H X\nA . .", poison_apples=1)
    game.play("right")
    assert game.bodies[0] == ((2, 1),)


def test_the_random_opponent_avoids_walls_and_itself() -> None:
    corner = drawn(". . H\n. . .\nE e A", other=[(0, 0), (1, 0)])
    assert {corner._opponent_move(1) for _ in range(50)} == {"up"}
    shut_in = drawn(". . H\ne e .\nE e A", other=[(0, 0), (1, 0), (1, 1), (0, 1)])
    assert {shut_in._opponent_move(1) for _ in range(100)} == set(shut_in.actions)


def test_a_step_costs_nothing_in_evaluation() -> None:
    assert Snake.evaluation_keys == {"step_reward": 0.0}
    assert drawn(". . .\n. H .\nA . .", step_reward=0.0).play("up") == (0.0, None)


def test_start_holds_what_the_keys_say_on_cells_of_their_own() -> None:
    game = Snake(size=6, apples=3, opponents=2, poison_apples=2, bananas=1)
    for seed in range(30):
        game.reset(seed=seed)
        assert [len(body) for body in game.bodies] == [1, 1, 1]
        assert Counter(game.food.values()) == {"apple": 3, "poison apple": 2, "banana": 1}
        assert len({*game.food, *(body[0] for body in game.bodies)}) == 9


def test_equal_keys_mean_equal_states() -> None:
    """Bodies in order, and what lies where."""
    keys = set()
    for own in ([(1, 1), (0, 1)], [(0, 1), (1, 1)]):
        for symbol in "AX":
            board = f". . {symbol}\n. . .\n. . ."
            keys.add(drawn(board, own=own, poison_apples=1).state_key())
    assert len(keys) == 4


def test_the_heuristic_takes_the_nearest_apple_and_no_deadly_move() -> None:
    assert drawn(". . A\n. . .\nH A .").greedy_action() == "right"
    wall = drawn(". . . .\nS S . .\nH S A .\nS S . .", own=[(0, 1), (0, 2), (1, 2), (1, 1), (1, 0), (0, 0)])
    assert wall.greedy_action() == "up"  # every move kills; the first of them
    around = drawn(". . . .\n. S . .\nH S A .\n. S . .", own=[(0, 1), (1, 1), (1, 0)])
    assert around.greedy_action() in ("up", "down")


def test_the_heuristic_leaves_a_cell_that_the_other_head_could_enter() -> None:
    contested = drawn("""
        . . . . .
        . . . . .
        H A E . .
        . . . . .
        . . . . A
    """)
    assert contested.greedy_action() in ("up", "down")


def test_the_search_passes_a_nearer_apple_for_two_that_lie_together() -> None:
    game = drawn("""
        . . . . . .
        . A . . . .
        . . . . . .
        . H . . A A
        . . . . . .
        . . . . . .
    """, own=[(1, 2)], apples=3, max_steps=4)  # fmt: skip
    assert game.greedy_action() == "up"
    assert game.search_action() == "right", "four moves are enough for two apples on the right, or for one above"
    game.max_steps = 3
    assert game.search_action() == "up", "one apple either way, and this one is nearer"
    game.max_steps = 1
    assert game.search_action() == game.greedy_action(), "nothing can be reached in time"
    game.bodies[0] = ()
    assert game.search_action() in game.actions


def test_the_search_eats_more_than_the_heuristic() -> None:
    rules = PlayRules("snake_20")
    starts = [Start(seed, seed, 0, (1, seed)) for seed in range(200)]
    reached = [
        np.mean([episode.total_reward for episode in play_episodes(starts, lambda: Snake(), player, rules)])
        for player in (GreedyPlayer(), SearchPlayer())
    ]
    assert reached[1] > reached[0]


def test_compact_text_says_where_everything_is() -> None:
    game = drawn("""
        . . . .
        H S A .
        . S . X
        E . B .
    """, own=[(0, 2), (1, 2), (1, 1)], poison_apples=1, bananas=1)  # fmt: skip
    assert game.describe("compact").splitlines() == [
        "you 0 2 right down", "other +0 -2", "apple +2 +0", "poison +3 -1", "banana +2 -2",
    ]  # fmt: skip


def test_compact_text_names_the_nearest_first_and_counts_from_the_own_head() -> None:
    game = drawn("""
        A . . A
        . . H .
        . A . .
        . E e .
    """, own=[(2, 2)], other=[(1, 0), (2, 0)], apples=3)  # fmt: skip
    assert game.describe("compact").splitlines() == ["you 2 2", "other -1 -2 right", "apple -1 -1 +1 +1 -2 +1"]
    game.bodies[0] = ()
    assert game.describe("compact") == "you"


def test_full_text_draws_the_board_as_it_is() -> None:
    drawing = ". . . .\nH S A .\n. S . X\nE e B ."
    game = drawn(drawing, own=[(0, 2), (1, 2), (1, 1)], other=[(0, 0), (1, 0)], poison_apples=1, bananas=1)
    text = game.describe()
    assert text.endswith(drawing)
    assert "Your snake: head at (0, 2), body: (1, 2), (1, 1)." in text
    assert "Other snake: head at (0, 0), body: (1, 0)." in text
    assert "Apples: (2, 2).\nPoison apples: (3, 1).\nBananas: (2, 0)." in text


def test_reference_players_reach_what_is_expected_of_them() -> None:
    """About 0.3 apples in 20 steps at random, about 4.7 by the heuristic."""
    rules = PlayRules("snake_20")
    starts = [Start(seed, seed, 0, (1, seed)) for seed in range(120)]
    apples = {}
    for player in (RandomPlayer(), GreedyPlayer()):
        episodes = play_episodes(starts, lambda: Snake(max_steps=20), player, rules)
        apples[type(player)] = np.mean([dict(episode.game_metrics)["apples"] for episode in episodes])
    assert 0.1 < apples[RandomPlayer] < 0.5
    assert 4.2 < apples[GreedyPlayer] < 5.4


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"size": 2}, "size=2: must be between 3 and 20"),
        ({"apples": -1}, "apples=-1: must be at least 0"),
        ({"size": 3, "apples": 4}, "apples=4: at most half of the 3x3 cells may be taken"),
        ({"opponent": "clever"}, "opponent=clever: must be random, greedy, or a checkpoint"),
    ],
)
def test_keys_that_make_no_game_are_refused(keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Snake(**keys)
