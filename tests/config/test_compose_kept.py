"""What the tests keep of Hydra's composing is what Hydra composes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from msgrpo_cli.config import hydra_app
from msgrpo_cli.config.compose import config_dir
from msgrpo_cli.errors import UsageError
from support.kept_composing import kept_composing, plain_composing

OVERRIDES = [
    [],
    ["experiment=smoke", "max_updates=3"],
    ["experiment=smoke", "max_updates=4", "env=snake_8", "hydra/launcher=basic"],
    ["env=snake_8", "experiment=smoke"],
    ["~model.path", "++trainer.optim=sgd", "+algo.new=1"],
    ["hydra.run.dir=here", "hydra.job.name=mine"],
    ["model.path=a", "model=any"],
    ["model=any", "model.path=a"],
    ["env=frozenlak"],
    ["~nosuch"],
    ["+env=snake_8"],
]


def looked(overrides: list[str], folders: list[Path] = []) -> Any:  # noqa: B006 - read only
    """All that comes of it, or what is said."""
    try:
        config = hydra_app.look(config_dir(), "train", overrides, folders, with_hydra=True)
    except UsageError as problem:
        return str(problem)
    return OmegaConf.to_yaml(config, resolve=False), config._metadata.flags, config.hydra._metadata.flags


def test_both_ways_give_the_same_and_whichever_was_first() -> None:
    with plain_composing():
        plain = [looked(overrides) for overrides in OVERRIDES]
    with kept_composing():
        forth = [looked(overrides) for overrides in OVERRIDES]
        back = [looked(overrides) for overrides in reversed(OVERRIDES)]
    assert forth == back[::-1] == plain
    assert len(set(map(str, plain))) == len(OVERRIDES)


def test_files_of_a_user_are_read_as_they_are_now(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    file = tmp_path / "env" / "mine.yaml"
    for size in (4, 5, 4):
        file.write_text(f"defaults:\n  - frozenlake\n  - _self_\nsize: {size}\n")
        with plain_composing():
            plain = looked(["env=mine"], [tmp_path])
        assert looked(["env=mine"], [tmp_path]) == plain
        assert f"  size: {size}\n" in plain[0]
    file.write_text("size: [4")
    with plain_composing(), pytest.raises(Exception) as expected:
        looked(["env=mine"], [tmp_path])
    with pytest.raises(type(expected.value)) as caught:
        looked(["env=mine"], [tmp_path])
    assert str(caught.value) == str(expected.value) and "mine.yaml" in str(caught.value)
