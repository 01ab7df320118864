"""An adapter that peft saved by itself is a model like any other: on its base, trained on, evaluated, built upon."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from msgrpo_cli.cli.app import main
from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.saved import anchored, config_hash, dumped, load_saved
from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.evaluation.evaluate import evaluate_subjects
from msgrpo_cli.evaluation.targets import asked_for
from msgrpo_cli.launch.run import go_on, start, weights_of
from msgrpo_cli.models.export import export
from msgrpo_cli.models.loading import load_model
from msgrpo_cli.planning.prompts import encoder
from msgrpo_cli.runs.checkpoint import from_weights, plain_base
from msgrpo_cli.runs.pretrained import ASSETS
from msgrpo_cli.training.train import train_job
from support.small_run import SMALL

FEW = ["max_updates=1", "eval.every=0", "eval.episodes=4", "trainer.use_cpu=true"]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """Beside a copy of `tiny`, with every part of the adapter other than 0; no tokenizer of its own."""
    shutil.copytree(ASSETS / "tiny", tmp_path / "base")
    torch.manual_seed(0)
    model, _ = load_model(compose("train", [f"model.path={tmp_path / 'base'}"]).model)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.02)
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_it_is_loaded_merged_on_its_base(adapter: Path) -> None:
    base, _ = load_model(compose("train", [f"model.path={adapter.parent / 'base'}"]).model)
    config = compose("train", [f"model.path={adapter}"])
    merged, tokenizer = load_model(config.model)
    assert tokenizer.chat_template and encoder(config) is not None
    ids = torch.tensor([[3, 14, 15, 16, 5, 4]])
    apart = (merged(ids).logits - base(ids).logits).abs().max()
    assert float(apart.detach()) > 1e-3
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]


@pytest.mark.parametrize("lora", ["false", "true"])
def test_it_is_trained_further_and_scored(adapter: Path, lora: str) -> None:
    overrides = [*SMALL, *FEW, f"lora.enabled={lora}"]
    config = from_weights(compose("train", overrides), weights_of(str(adapter), overrides))
    run = adapter.parent / f"run-{lora}"
    outcome = train_job(config, run, command=["test"], overrides=overrides)
    assert outcome["updates"] == 1
    chosen = ["env=frozenlake", "model=tiny", "eval.episodes=4", "eval.split=test"]
    [alone] = evaluate_subjects(asked_for(str(adapter), [*chosen, f"model.path={adapter}"]), as_json=True)
    base = json.loads((run / "eval" / "base.json").read_text())
    assert alone["mean_total_reward"] == base["mean_total_reward"]
    [trained] = evaluate_subjects(asked_for(str(run), ["eval.episodes=4"]), as_json=True)
    assert trained["mean_total_reward"] == json.loads((run / "eval" / "best.json").read_text())["mean_total_reward"]


def test_one_that_names_no_base_is_refused(adapter: Path) -> None:
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": ""}))
    with pytest.raises(UsageError, match=r"adapter_config\.json: names no base_model_name_or_path"):
        load_model(compose("train", [f"model.path={adapter}"]).model)


def moved(adapter: Path, folder: Path, base: str) -> Path:
    """The adapter, there, with its base named so."""
    shutil.copytree(adapter, folder)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": base}))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("named", "given", "lora"),
    [
        ("base", "model.path", "false"),
        ("base", "model.path", "true"),
        ("./base", "--from", "false"),
        ("zoo/deep/../../base", "model.path", "false"),
    ],
)
def test_a_base_that_is_named_by_a_relative_path_is_found_from_anywhere(
    named: str, given: str, lora: str, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, overrides = adapter.parent, [*SMALL, *FEW, f"lora.enabled={lora}"]
    (home / "zoo" / "deep").mkdir(parents=True)
    moved(adapter, home / "zoo" / "adapter", named)
    monkeypatch.chdir(home)
    if given == "model.path":
        config = compose("train", [*overrides, "model.path=zoo/adapter"])
    else:
        config = from_weights(compose("train", overrides), Path("zoo/adapter"))
    train_job(config, home / "run", command=["test"], overrides=overrides)
    (home / "elsewhere").mkdir()
    shutil.copytree(ASSETS / "tiny", home / "elsewhere" / "base")
    monkeypatch.chdir(home / "elsewhere")
    saved = load_saved(home / "run" / "config.yaml").model
    assert saved.adapter_base is not None and Path(saved.adapter_base).resolve() == (home / "base").resolve()
    assert Path(plain_base(home / "zoo" / "adapter", saved).path).resolve() == (home / "base").resolve()
    shutil.rmtree(home / "elsewhere" / "base")
    assert go_on(str(home / "run"), ["max_updates=2"], [], ["test"], [])["updates"] == 2
    [scored] = evaluate_subjects(asked_for(str(home / "run"), ["eval.episodes=2"]), as_json=True)
    assert scored["episodes"] == 2
    export(str(home / "run"), home / "exported", merge=lora == "true")
    assert load_model(compose("train", [f"model.path={home / 'exported'}"]).model)


def test_a_base_that_is_nowhere_is_told_with_a_remedy(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    place = moved(adapter, adapter.parent / "zoo" / "adapter", "zoo/gone")
    with pytest.raises(RunError, match=r"adapter of zoo/gone, .*write its absolute path into .*adapter_config\.json$"):
        load_model(compose("train", [f"model.path={place}"]).model)


def test_a_config_of_usual_values_is_hashed_as_before_their_keys_existed() -> None:
    config = compose("train", SMALL)
    assert config_hash(config) == config_hash(anchored(config))
    data = dumped(anchored(config))
    data.pop("note")
    data.pop("parallel")
    data["engine"].pop("note")
    data["model"].pop("adapter_base")
    data["rollout"].pop("prefix_memory")
    assert hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16] == config_hash(config)


@pytest.mark.parametrize("place", ["adapter", "an adapter, it's {odd}"])
def test_weights_that_from_names_are_those_of_any_model(place: str, adapter: Path) -> None:
    source = adapter.rename(adapter.parent / place)
    run = adapter.parent / "run"
    chosen = [text for text in SMALL if not text.startswith("model=")]
    short = ["prompt=action_only", "prompt.observation=compact", "rollout.max_new_tokens=8"]
    asked = ["model=any", *chosen, *FEW, *short]
    start([*asked, f"hydra.run.dir={run}"], [], ["test"], source)
    assert load_saved(run / "config.yaml").model.path == str(source.resolve())


def test_a_dry_run_shows_the_weights_that_from_names(
    adapter: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [text for text in SMALL if not text.startswith("model=")]
    short = ["prompt=action_only", "prompt.observation=compact", "rollout.max_new_tokens=8"]
    asked = ["train", "model=any", *chosen, *FEW, *short, "--from", str(adapter), "--dry-run", "--json"]

    def shown(*further: str) -> Any:
        monkeypatch.setattr("sys.argv", ["msgrpo", *asked, *further])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return json.loads(capsys.readouterr().out)

    assert shown()["config"]["model"]["path"] == str(adapter)
    assert len(shown("--multirun", "seed=0,1")["jobs"]) == 2
