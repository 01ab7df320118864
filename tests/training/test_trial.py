"""What could only fail at the first checkpoint fails at the start, in the library's own words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.saved import config_hash, load_saved
from msgrpo_cli.errors import UsageError
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


def test_a_run_of_a_relative_path_goes_on_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    model, tokenizer = small_model()
    model.save_pretrained("mymodel")
    tokenizer.save_pretrained("mymodel")
    configs = [compose("train", [*SMALL, *FEW, f"model.path={path}"]) for path in ("./mymodel", "mymodel")]
    absolute = compose("train", [*SMALL, *FEW, f"model.path={tmp_path / 'home' / 'mymodel'}"])
    assert {config_hash(config) for config in configs} == {config_hash(absolute)}
    train_job(configs[0], tmp_path / "run", command=["test"], overrides=[])
    monkeypatch.chdir(tmp_path)
    saved = load_saved(tmp_path / "run" / "config.yaml")
    assert saved.model.path == str(tmp_path / "home" / "mymodel")
    base = json.loads((tmp_path / "run" / "checkpoints" / "checkpoint-1" / "msgrpo.json").read_text())["model"]["path"]
    assert base == saved.model.path
    more = saved.model_copy(update={"max_updates": 2})
    outcome = train_job(more, tmp_path / "run", command=["test"], overrides=[], resume=tmp_path / "run")
    assert outcome["updates"] == 2
