"""The embedded bases: their recipe, their size, what they say of themselves."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.imitation import RECIPES, blundering_player, demonstrations, imitate, uniform_player
from msgrpo_cli.model_paths import local_path
from msgrpo_cli.split import split_of


def test_the_recipe_gives_the_same_weights_twice_and_learns() -> None:
    recipe = replace(RECIPES["tiny"], batches=4)
    first, tokenizer = imitate(recipe, batch_size=16)
    second, _ = imitate(recipe, batch_size=16)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert first.num_parameters() <= 450_000
    assert len(tokenizer) == first.config.vocab_size


def test_the_player_errs_systematically() -> None:
    game = FrozenLake()
    game.board, game.cell = ("SHFF", "FFFF", "FFFF", "FFFG"), 0
    # left, down, right, up: right is a hole, down the only shortest safe move
    assert np.allclose(blundering_player(game), [0.0375, 0.2875, 0.6375, 0.0375])
    game.cell = 7  # right edge, second row: down, and the only shortest move is down
    assert np.allclose(blundering_player(game), [0.0375, 0.8875, 0.0375, 0.0375])
    assert np.allclose(uniform_player(game), 0.25)


def test_demonstrations_come_from_the_train_part_alone() -> None:
    seen = [observation for observation, _ in islice(demonstrations(uniform_player, seed=3), 300)]
    boards = set()
    for observation in seen:
        cells = observation.removeprefix("slippery\n").split()
        tiles = "".join({"O": "H", "G": "G"}.get(cell, "F") for cell in cells)
        key = f"S{tiles[1:]}@0".encode()
        boards.add(key)
    assert len(boards) > 50
    assert {split_of(key) for key in boards} == {"train"}


@pytest.mark.parametrize("name", list(RECIPES))
def test_the_shipped_bases_are_small_and_say_what_they_are(name: str) -> None:
    folder = Path(local_path(f"embedded:{name}"))
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2_000_000
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.float32}
    assert "a stand-in for pretraining" in (folder / "README.md").read_text()
