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
    model.generation_config.max_new_tokens = -1
    with pytest.raises(UsageError, match=r"^model\.path=here: its generation_config\.json could not .*max_new"):
        try_saving(model, tokenizer, "here")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("pad_token_id", -1, "GenerationConfig is invalid: .*pad_token_id"),
        ("cache_implementation", "bogus", r"Invalid `cache_implementation` \(bogus\)"),
        ("early_stopping", "x", "`early_stopping` must be a boolean or 'never', but is x"),
    ],
)
def test_whatever_is_wrong_with_a_generation_config_is_told_in_a_line(key: str, value: object, said: str) -> None:
    model, tokenizer = small_model()
    setattr(model.generation_config, key, value)
    before = model.generation_config.do_sample
    with pytest.raises(UsageError, match=said) as caught:
        try_saving(model, tokenizer, "here")
    assert str(caught.value).endswith("; correct it there") and "\n" not in str(caught.value)
    assert model.generation_config.do_sample == before, "it is left as it was"


def test_settings_of_sampling_without_sampling_are_set_right_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers saves such a config as long as nothing in it was changed; a trainer changes it."""
    model, tokenizer = small_model()
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "generation_config.json"
    file.write_text(json.dumps({"temperature": 0.6, "top_p": 0.9, "do_sample": False, "eos_token_id": 5}))
    config = compose("train", [*SMALL, *FEW, f"model.path={tmp_path / 'model'}"])
    train_job(config, tmp_path / "run", command=["test"], overrides=[])
    assert "checkpoints say do_sample=true" in capsys.readouterr().err
    saved = json.loads((tmp_path / "run/checkpoints/checkpoint-1/generation_config.json").read_text())
    assert saved["do_sample"] is True and saved["temperature"] == 0.6


def test_a_tokenizer_that_changes_when_it_is_saved_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = small_model()
    monkeypatch.setattr(tokenizer, "save_pretrained", ZOO["gpt-2"].made()[1].save_pretrained)
    with pytest.raises(UsageError, match="its tokenizer reads otherwise"):
        try_saving(model, tokenizer, "here")
    assert make_tokenizer().chat_template


@pytest.mark.slow
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
