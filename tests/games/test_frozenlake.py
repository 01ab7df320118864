"""Frozen Lake on hand-drawn boards: moves, rewards, texts, states, transitions and shortest paths."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from msgrpo_cli.games.core import Observation
from msgrpo_cli.games.frozenlake import FrozenLake
from support.chance import fits

BOARD = ("SFFF", "FHFH", "FFFH", "HFFG")
LEFT, DOWN, RIGHT, UP = range(4)


def drawn(board: tuple[str, ...] = BOARD, cell: int = 0, slippery: bool = False, max_steps: int = 8) -> FrozenLake:
    """A lake with a typed-in board; cells are numbered row by row from the top left."""
    game = FrozenLake(size=len(board), slippery=slippery, max_steps=max_steps)
    game.reset(seed=0)
    game.board, game.cell = board, cell
    return game


@pytest.mark.parametrize(
    ("cell", "action", "after"),
    [
        (9, LEFT, 8), (9, DOWN, 13), (9, RIGHT, 10), (9, UP, 5),
        (0, LEFT, 0), (0, UP, 0), (3, RIGHT, 3), (3, UP, 3), (8, LEFT, 8), (13, DOWN, 13), (14, DOWN, 14),
        (3, DOWN, 7), (4, DOWN, 8), (2, LEFT, 1), (0, RIGHT, 1),
    ],
)  # fmt: skip
def test_moves_and_walls(cell: int, action: int, after: int) -> None:
    game = drawn(cell=cell)
    game.step(action)
    assert game.cell == after


def test_a_hole_ends_the_walk_without_reward() -> None:
    game = drawn(cell=4)
    text, reward, terminated, truncated, info = game.step(RIGHT)
    assert (reward, terminated, truncated, info, game.success) == (0.0, True, False, {"ended_by": "hole"}, False)
    assert "You are at (1, 1)." in text


def test_the_goal_ends_the_walk_with_reward_1() -> None:
    game = drawn(cell=14)
    assert game.success is False
    text, reward, terminated, truncated, info = game.step(RIGHT)
    assert (reward, terminated, truncated, info, game.success) == (1.0, True, False, {"ended_by": "goal"}, True)
    assert "You are at (3, 3)." in text


def test_a_whole_walk() -> None:
    game = drawn()
    steps = [game.step(action)[1:4] for action in (DOWN, DOWN, RIGHT, RIGHT, DOWN, RIGHT)]
    assert steps == [(0.0, False, False)] * 5 + [(1.0, True, False)]


def test_the_step_limit_truncates() -> None:
    game = drawn(max_steps=2)
    assert game.step(UP)[3] is False
    assert game.step(UP)[2:] == (False, True, {"ended_by": "step limit"})


def test_a_new_walk_starts_at_the_top_left() -> None:
    game = drawn(cell=9)
    game.reset(seed=3)
    assert game.cell == 0
    assert game.board[0][0] == "S"
    assert game.board[3][3] == "G"


def test_full_text() -> None:
    assert drawn(cell=8).describe("full") == (
        "Board: 4 rows and 4 columns. A position is (row, column); (0, 0) is the top left cell, the row grows "
        "downwards, the column to the right.\n"
        "The ice is not slippery. At most 8 moves.\n"
        "Legend: P you, G goal, O hole, . frozen.\n"
        "The goal is at (3, 3). Holes: (1, 1), (1, 3), (2, 3), (3, 0).\n"
        "You are at (2, 0).\n"
        ". . . .\n"
        ". O . O\n"
        "P . . O\n"
        "O . . G"
    )
    assert "The ice is slippery. At most 15 moves." in drawn(slippery=True, max_steps=15).describe()
    assert "Holes: none." in drawn(("SF", "FG")).describe()
    assert drawn(cell=8).describe() == drawn(cell=8).render() == drawn(cell=8).describe("full")


def test_rules_say_what_holds() -> None:
    dry, slippery = drawn(max_steps=8).rules(), drawn(slippery=True, max_steps=15).rules()
    assert "The ice is not slippery: you always move in the direction you choose." in dry
    assert "with probability 1/3 you move in the direction you chose" in slippery
    assert "1/3" not in dry
    assert "not slippery" not in slippery
    assert "You have at most 8 moves." in dry
    assert "You have at most 15 moves." in slippery
    for rules in (dry, slippery):
        assert "a move off the board leaves you where you are" in rules
        assert "Reaching the goal wins (reward 1), a hole ends the walk (reward 0)." in rules


def test_compact_text() -> None:
    assert drawn(cell=8).describe("compact") == ". . . .\n. O . O\nP . . O\nO . . G"
    assert drawn(("SF", "HG"), slippery=True).describe("compact") == "slippery\nP .\nO G"


def test_compact_text_of_a_wide_board_has_two_cells_a_word() -> None:
    board = ("SFFFFFFF", "FHFFFFFF", "FFFFFFFF", "FFFFFFFF", "FFFFFFFF", "FFFFFFFF", "FFFFFFFF", "FFFFFFHG")
    assert drawn(board).describe("compact").splitlines() == [
        "P. .. .. ..",
        ".O .. .. ..",
        *[".. .. .. .."] * 5,
        ".. .. .. OG",
    ]


@pytest.mark.parametrize("size", range(2, 9))
@pytest.mark.parametrize("slippery", [False, True])
def test_compact_text_has_at_most_64_words_line_breaks_included(size: int, slippery: bool) -> None:
    game = FrozenLake(size=size, slippery=slippery)
    game.reset(seed=1)
    assert len(re.findall(r"\n|\S+", game.describe("compact"))) <= 64


@pytest.mark.parametrize("size", [4, 8])
def test_both_texts_tell_states_apart_as_the_state_key_does(size: int) -> None:
    keys, compact, full = set(), set(), set()
    game = FrozenLake(size=size)
    for seed in range(100):
        game.reset(seed=seed)
        for cell in (0, 1, size):
            game.cell = cell
            if game.board[cell // size][cell % size] != "H":
                keys.add(game.state_key())
                compact.add(game.describe("compact"))
                full.add(game.describe("full"))
    assert len(keys) == len(compact) == len(full) > 150


def test_state_key_separates_boards_and_cells_and_nothing_else() -> None:
    assert drawn().state_key() == drawn().state_key()
    assert drawn(cell=1).state_key() != drawn(cell=8).state_key() != drawn(cell=0).state_key()
    assert drawn(("SFFF", "FHFH", "FFFF", "HFFG")).state_key() != drawn().state_key()
    game = drawn()
    game.step(UP)
    assert game.elapsed == 1
    assert game.state_key() == drawn().state_key()


def test_state_holds_all_that_the_transitions_depend_on() -> None:
    assert drawn().state() == (BOARD, False, 0)
    assert drawn(slippery=True, cell=3).state() == (BOARD, True, 3)


@pytest.mark.parametrize(
    ("keys", "seed", "board"),
    [
        ({}, 0, "SFHF FFFF FFFH FFFG"),
        ({}, 1, "SFFF FHHH FFFF FFFG"),
        ({"size": 8}, 3, "SHHFHHFH FFFFFHFF FFFFFFFF HFFFFFFH FFFFFFFF FHHFFFHH FFFFFFHH FFHFHFFG"),
    ],
)
def test_typed_in_maps(keys: dict[str, float], seed: int, board: str) -> None:
    game = FrozenLake(**keys)  # type: ignore[arg-type]
    game.reset(seed=seed)
    assert " ".join(game.board) == board


def test_same_seed_same_map_in_every_process() -> None:
    code = (
        "from msgrpo_cli.games.frozenlake import FrozenLake\n"
        "game = FrozenLake(size=8)\n"
        "for seed in range(20): game.reset(seed=seed); print(game.state_key().decode())"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    ]
    assert printed[0] == printed[1]
    assert len(set(printed[0].splitlines())) == 20
    game = FrozenLake(size=8)
    game.reset(seed=19)
    assert printed[0].splitlines()[19] == game.state_key().decode()


def test_map_depends_on_the_seed_of_reset_only() -> None:
    game = FrozenLake(slippery=True)
    game.reset(seed=7)
    first = game.state_key()
    game.np_random = np.random.default_rng(1)
    game.step(RIGHT)
    game.reset(seed=8)
    assert game.state_key() != first
    game.reset(seed=7)
    assert game.state_key() == first


def test_dry_transitions_are_what_is_played() -> None:
    for cell in (0, 1, 2, 3, 4, 6, 8, 9, 10, 13, 14):
        for number, action in enumerate(FrozenLake.actions):
            game = drawn(cell=cell)
            outcomes = game.transitions(game.state(), action)
            _, reward, terminated, _, _ = game.step(number)
            assert outcomes == [(1.0, game.state(), reward, terminated)]


@pytest.mark.parametrize(("action", "cells"), [("left", (5, 8, 13)), ("down", (8, 13, 10)), ("up", (8, 5, 10))])
def test_slippery_transitions_are_what_is_played(action: str, cells: tuple[int, int, int]) -> None:
    game = drawn(cell=9, slippery=True)
    outcomes = {state[2]: chance for chance, state, _, _ in game.transitions(game.state(), action)}  # type: ignore[index]
    assert outcomes == pytest.approx(dict.fromkeys(cells, 1 / 3))
    game.np_random = np.random.default_rng(0)
    after = []
    for _ in range(3000):
        game.cell, game.elapsed = 9, 0
        game.step(game.actions.index(action))
        after.append(game.cell)
    assert set(after) == set(cells)
    assert fits([after.count(cell) for cell in cells], [outcomes[cell] for cell in cells])


def test_slippery_transitions_into_hole_goal_and_wall() -> None:
    game = drawn(cell=14, slippery=True)
    outcomes = [(state[2], reward, ended) for _, state, reward, ended in game.transitions(game.state(), "right")]  # type: ignore[index]
    assert sorted(outcomes) == [(10, 0.0, False), (14, 0.0, False), (15, 1.0, True)]
    game.cell = 13
    outcomes = [(state[2], reward, ended) for _, state, reward, ended in game.transitions(game.state(), "left")]  # type: ignore[index]
    assert sorted(outcomes) == [(9, 0.0, False), (12, 0.0, True), (13, 0.0, False)]


@pytest.mark.parametrize(
    ("cell", "moves"),
    [
        (0, ["down", "right"]), (3, ["left"]), (4, ["down"]), (8, ["right"]), (9, ["down", "right"]), (10, ["down"]),
        (14, ["right"]), (15, []),
    ],
)  # fmt: skip
def test_shortest_moves(cell: int, moves: list[str]) -> None:
    game = drawn(cell=cell)
    assert game.shortest_moves() == moves
    assert game.greedy_action() == (moves[0] if moves else "left")


def test_no_way_to_the_goal() -> None:
    game = drawn(("SH", "HG"))
    assert game.shortest_moves() == []
    assert game.greedy_action() == "left"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": 1}, "size=1: must be between 2 and 16"),
        ({"p": -0.1}, "p=-0.1: must be between 0.5 and 1"),
        ({"p": 1.5}, "p=1.5: must be between 0.5 and 1"),
        ({"max_steps": 0}, "max_steps=0: must be at least 1"),
    ],
)
def test_impossible_lakes_are_refused(keys: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        FrozenLake(**keys)  # type: ignore[arg-type]


@pytest.mark.parametrize("observation", ["compact", "full"])
def test_what_lies_around_is_said_last_where_it_is_asked_for(observation: Observation) -> None:
    game = drawn(("SFH", "FFF", "FFG"))
    plain = game.describe(observation)
    for cell, said in {
        0: "left edge, down frozen, right frozen, up edge",
        1: "left frozen, down frozen, right hole, up edge",
        7: "left frozen, down edge, right goal, up frozen",
    }.items():
        game.cell, game.look_around = cell, True
        told = game.describe(observation)
        assert told.endswith(f"\nAround you: {said}.")
        game.look_around = False
        assert told == f"{game.describe(observation)}\nAround you: {said}."
    game.cell = 0
    assert game.describe(observation) == plain


def test_a_neighbour_that_is_told_wrongly_is_found() -> None:
    class Mirrored(FrozenLake):
        def _neighbours(self) -> list[int | None]:
            return super()._neighbours()[::-1]

    for kind, right in ((FrozenLake, True), (Mirrored, False)):
        game = kind(look_around=True)
        game.reset(seed=1)
        game.board, game.cell = BOARD, 1
        problems = [fact.problem(game) for fact in game.facts if fact.name == "neighbours"]
        assert (problems == [None, None]) is right
        assert all(fact.problem(game) is None for fact in game.facts if fact.name == "board")
