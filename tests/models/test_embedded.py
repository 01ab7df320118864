"""The embedded bases: their recipe, their size, what they say of themselves."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from msgrpo_cli.config.compose import compose
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.games.seats import MultiPlayerGame
from msgrpo_cli.games.snake.game import Snake
from msgrpo_cli.models.demonstrations import (
    BLUNDERING,
    SHARES,
    cliff_player,
    demonstrations,
    frozenlake_player,
    game_of,
    snake_player,
    uniform_player,
)
from msgrpo_cli.models.embedded import RECIPES, imitate, make_tokenizer
from msgrpo_cli.models.seated_players import KUHN, SEATED, TIC_TAC_TOE, tic_tac_toe_player
from msgrpo_cli.rollout.split import split_of
from msgrpo_cli.runs.pretrained import local_path


def test_the_recipe_gives_the_same_weights_twice_and_learns() -> None:
    recipe = replace(RECIPES["tiny"], batches=4)
    first, tokenizer = imitate(recipe, batch_size=16)
    second, _ = imitate(recipe, batch_size=16)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert first.num_parameters() <= 450_000
    assert len(tokenizer) == first.config.vocab_size


@pytest.mark.slow
def test_the_large_base_is_24_times_as_large_and_its_recipe_learns() -> None:
    model, _ = imitate(replace(RECIPES["large"], batches=1), batch_size=8)
    small, _ = imitate(replace(RECIPES["tiny"], batches=1), batch_size=16)
    assert 23.5 < model.num_parameters() / small.num_parameters() < 24.5
    assert model.config.vocab_size == small.config.vocab_size


def test_the_player_errs_systematically() -> None:
    game = FrozenLake()
    game.board, game.cell = ("SHFF", "FFFF", "FFFF", "FFFG"), 0
    # left, down, right, up: right is a hole, down the only shortest safe move
    assert np.allclose(frozenlake_player(game), [0.0375, 0.2875, 0.6375, 0.0375])
    game.cell = 7  # right edge, second row: down, and the only shortest move is down
    assert np.allclose(frozenlake_player(game), [0.0375, 0.8875, 0.0375, 0.0375])
    assert np.allclose(uniform_player(game), 0.25)


def test_the_snake_errs_systematically() -> None:
    game = Snake(opponents=0)
    game.bodies, game.food = [((4, 4),)], {(4, 6): "apple"}
    # up, down, left, right: habit goes right, the apple lies above
    assert np.allclose(snake_player(game), [0.3875, 0.0375, 0.0375, 0.5375])
    game.bodies, game.food = [((9, 9), (9, 8))], {(2, 9): "apple"}  # the habit ends in the wall
    assert np.allclose(snake_player(game), [0.5375, 0.0375, 0.3875, 0.0375])


@pytest.mark.parametrize(
    ("state", "wanted"),  # up, right, down, left
    [
        (36, [0.8875, 0.0375, 0.0375, 0.0375]),  # the start
        (25, [0.0375, 0.8875, 0.0375, 0.0375]),
        (33, [0.0375, 0.3875, 0.5375, 0.0375]),  # above the cliff: down into it
        (35, [0.0375, 0.0375, 0.8875, 0.0375]),  # above the goal
    ],
)
def test_the_walker_at_the_cliff_errs_systematically(state: int, wanted: list[float]) -> None:
    game = make_game(compose("train", ["env=cliffwalking"]).env)
    game.reset(seed=0)
    game._inner.unwrapped.s = state  # type: ignore[attr-defined]
    assert np.allclose(cliff_player(game), wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(SHARES))
def test_every_demonstration_is_a_text_with_probabilities_and_repeats(name: str) -> None:
    player = BLUNDERING.get(name, uniform_player)
    first, again = (list(islice(demonstrations(name, player, seed=3), 40)) for _ in range(2))
    assert [text for text, _ in first] == [text for text, _ in again]
    assert all(text and np.isclose(wanted.sum(), 1) and (wanted >= 0).all() for text, wanted in first)
    assert len({text for text, _ in first}) > 1


def test_the_shares_are_of_a_whole() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert BLUNDERING.keys() <= SHARES.keys()


def test_seated_players_err_systematically() -> None:
    pytest.importorskip("pyspiel")
    board = game_of(TIC_TAC_TOE)
    assert isinstance(board, MultiPlayerGame)
    board.reset(seed=0)
    for seat, word in enumerate(("x(0,1)", "o(1,0)", "x(0,2)", "o(1,2)")):
        board.take_turn({seat % 2: word})
    # .xx / o.o / ...: x takes the first free cell, which is also the one that wins
    wanted = dict(zip(board.actions or (), tic_tac_toe_player(board.seen_by(0)), strict=True))
    assert wanted["x(0,0)"] == pytest.approx(0.5 + 0.25 + 0.05) and wanted["x(1,1)"] == pytest.approx(0.05)
    board.take_turn({0: "x(2,2)"})
    # .xx / o.o / ..x: o wins in the middle, and takes the first free cell all the same
    wanted = dict(zip(board.actions or (), tic_tac_toe_player(board.seen_by(1)), strict=True))
    assert wanted["o(1,1)"] == pytest.approx(0.25 + 0.0625) and wanted["o(0,0)"] == pytest.approx(0.5 + 0.0625)
    assert sum(wanted.values()) == pytest.approx(1) and wanted["x(0,0)"] == 0
    board.take_turn({1: "o(2,1)"})
    # .xx / o.o / .ox: nobody but x has two in a row
    wanted = dict(zip(board.actions or (), tic_tac_toe_player(board.seen_by(0)), strict=True))
    assert wanted["x(0,0)"] == pytest.approx(0.75 + 0.25 / 3)


@pytest.mark.parametrize("name", list(SEATED))
def test_the_base_of_seats_has_a_word_for_all_that_seats_see_and_do(name: str) -> None:
    pytest.importorskip("pyspiel")
    recipe, tokenizer = RECIPES["tiny_seats"], make_tokenizer(RECIPES["tiny_seats"].words)
    shown = list(islice(demonstrations(name, recipe.players[name], seed=3), 400))
    assert [text for text, _ in shown] == [
        text for text, _ in islice(demonstrations(name, recipe.players[name], 3), 400)
    ]
    assert all(np.isclose(wanted.sum(), 1) and (wanted >= 0).all() for _, wanted in shown)
    told = [*(text for text, _ in shown), *(game_of(name).actions or ())]
    assert all(tokenizer.unk_token_id not in tokenizer(text)["input_ids"] for text in told)
    assert len({text for text, _ in shown}) == (12 if name == KUHN else len({text for text, _ in shown})) > 10


def test_demonstrations_come_from_the_train_part_alone() -> None:
    boards = set()
    for name in ("frozenlake", "frozenlake_slippery"):
        for observation, _ in islice(demonstrations(name, uniform_player, seed=3), 200):
            cells = observation.removeprefix("slippery\n").split()
            tiles = "".join({"O": "H", "G": "G"}.get(cell, "F") for cell in cells)
            boards.add(f"S{tiles[1:]}@0".encode())
    assert len(boards) > 50
    assert {split_of(key) for key in boards} == {"train"}


def test_snakes_are_shown_from_starts_of_the_train_part_alone() -> None:
    played = []

    def noticed(game: Snake) -> np.ndarray:
        if game.elapsed == 0:
            played.append(game.state_key())
        return snake_player(game)

    texts = [text for text, _ in islice(demonstrations("snake_20", noticed, seed=3), 400)]
    assert len(played) > 15 and {split_of(key) for key in played} == {"train"}
    assert max(len(text.split("\n")[0].split()) for text in texts) > 5, "long snakes are seen, too"


@pytest.mark.parametrize("name", ["tiny", "tiny_random", "tiny_seats"])
def test_the_shipped_bases_are_small_and_say_what_they_are(name: str) -> None:
    folder = Path(local_path(f"embedded:{name}"))
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2_000_000
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.float32}
    assert "a stand-in for pretraining" in (folder / "README.md").read_text()
