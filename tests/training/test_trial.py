"""What could only fail at the first checkpoint fails at the start, in the library's own words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.saved import config_hash, load_saved
from msgrpo_cli.errors import UsageError
from msgrpo_cli.launch.run import go_on
from msgrpo_cli.models.embedded import make_tokenizer
from msgrpo_cli.training.train import train_job
from msgrpo_cli.training.trial import try_saving
from support.parts import small_model
from support.small_run import SMALL
from support.zoo import ZOO

FEW = ["max_updates=1", "eval.every=0", "eval.episodes=2", "trainer.use_cpu=true"]


def test_a_generation_config_that_cannot_be_saved_is_refused_before_anything_is_played() -> None:
    model, tokenizer = small_model()
    try_saving(model, tokenizer, "here")
    model.generation_config.temperature, model.generation_config.do_sample = 0.5, False
    with pytest.raises(UsageError, match=r"^model\.path=here: could not be saved as a checkpoint: .*temperature"):
        try_saving(model, tokenizer, "here")


def test_a_tokenizer_that_changes_when_it_is_saved_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = small_model()
    monkeypatch.setattr(tokenizer, "save_pretrained", ZOO["gpt-2"].made()[1].save_pretrained)
    with pytest.raises(UsageError, match="its tokenizer reads otherwise"):
        try_saving(model, tokenizer, "here")
    assert make_tokenizer().chat_template


@pytest.mark.parametrize("name", ["mymodel", "=my model"])
def test_a_run_of_a_relative_path_goes_on_from_elsewhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    model, tokenizer = small_model()
    model.save_pretrained(name)
    tokenizer.save_pretrained(name)
    there = str(tmp_path / "home" / name)
    configs = [compose("train", [*SMALL, *FEW, f"model.path='{path}'"]) for path in (f"./{name}", name, there)]
    assert len({config_hash(config) for config in configs}) == 1
    train_job(configs[0], tmp_path / "run", command=["test"], overrides=[])
    monkeypatch.chdir(tmp_path)
    assert load_saved(tmp_path / "run" / "config.yaml").model.path == there
    base = json.loads((tmp_path / "run" / "checkpoints" / "checkpoint-1" / "msgrpo.json").read_text())["model"]["path"]
    assert base == there
    assert go_on("run", ["max_updates=2"], [], ["test"], [])["updates"] == 2
    with pytest.raises(UsageError, match="to start anew from its weights use msgrpo train --from"):
        go_on("run", [f"model.path='{there}'"], [], ["test"], [])
