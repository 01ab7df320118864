"""Minesweeper's rules, on boards drawn by hand."""

from __future__ import annotations

import pytest

from msgrpo_cli.games.minesweeper import Minesweeper


def mined(size: int, *mines: str) -> Minesweeper:
    """A board with mines in the named cells."""
    game = Minesweeper(size=size, mines=len(mines))
    game.mines = frozenset(map(game.actions.index, mines))
    game.opened = frozenset()
    return game


def test_cells_are_named_by_column_and_row() -> None:
    assert Minesweeper(size=3, mines=1).actions == ("a1", "b1", "c1", "a2", "b2", "c2", "a3", "b3", "c3")


def test_a_digit_counts_the_mines_around() -> None:
    game = mined(3, "a1", "b1", "c3")
    assert game.play("b2") == (pytest.approx(1 / 6), None)
    assert game.describe("compact") == "x a b c\n1 # # #\n2 # 3 #\n3 # # #"


def test_a_mine_ends_the_game() -> None:
    game = mined(3, "a1")
    assert game.play("a1") == (0.0, "mine")
    assert not game.success


def test_a_cell_without_mines_around_opens_its_neighbours_and_may_win() -> None:
    game = mined(3, "a1")
    reward, ending = game.play("c3")
    assert (reward, ending) == (pytest.approx(1.0), "cleared")
    assert game.describe("compact") == "x a b c\n1 # 1 0\n2 1 1 0\n3 0 0 0"


def test_opening_an_open_cell_changes_nothing() -> None:
    game = mined(3, "a1", "c1")
    game.play("b1")
    before = game.state_key()
    assert game.play("b1") == (0.0, None)
    assert game.state_key() == before


def test_the_heuristic_opens_what_is_certainly_safe() -> None:
    game = mined(3, "a1", "c1")
    game.play("b3")  # opens the lower row and the middle one: 1 2 1
    assert game.describe("compact").splitlines()[2:] == ["2 1 2 1", "3 0 0 0"]
    assert game.greedy_action() == "b1"
    assert game.play("b1") == (pytest.approx(1 / 7), "cleared")


def test_the_heuristic_wins_most_boards() -> None:
    game, won = Minesweeper(), 0
    for seed in range(60):
        game.reset(seed=seed)
        for _ in range(game.max_steps):
            _, _, terminated, truncated, _ = game.step(game.actions.index(game.greedy_action()))
            if terminated or truncated:
                break
        won += game.success
    assert won > 30


def test_rewards_of_a_won_game_sum_to_one() -> None:
    game = Minesweeper()
    for seed in range(20):
        game.reset(seed=seed)
        total = sum(game.play(game.actions[cell])[0] for cell in range(25) if cell not in game.mines)
        assert total == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("keys", "said"),
    [({"size": 7}, "size=7"), ({"mines": 0}, "mines=0"), ({"mines": 12}, "mines=12: must be between 1 and 5")],
)
def test_boards_that_cannot_be_had_are_refused(keys: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Minesweeper(**keys)


def test_an_open_cell_may_be_no_legal_move() -> None:
    game = Minesweeper(size=2, mines=1, legal_moves=True)
    game.reset(seed=0)
    safe = next(name for cell, name in enumerate(game.actions) if cell not in game.mines)
    assert game.limits_moves and game.legal() == ("a1", "b1", "a2", "b2")
    game.take(safe)
    assert game.legal() == tuple(name for name in game.actions if name != safe)
    assert "closed ones alone" in game.rules()


def test_by_default_an_open_cell_may_be_opened_again() -> None:
    game = mined(3, "a1", "b1", "c3")
    game.play("b2")
    assert not game.limits_moves and game.legal() == game.actions
    assert game.rules().endswith("21 cells.")
