"""`msgrpo export`: folders that plain `from_pretrained` loads, with the logits of what was trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.evaluation.evaluate import evaluate_subjects
from msgrpo_cli.evaluation.targets import asked_for
from msgrpo_cli.models.export import export
from msgrpo_cli.models.loading import load_model
from msgrpo_cli.runs.checkpoint import best, describe, read_metadata
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.pretrained import ASSETS
from msgrpo_cli.training.train import train_job
from support.commands import run as command
from support.small_run import SMALL

OF_TRAINING = {"optimizer.pt", "scheduler.pt", "trainer_state.json", "training_args.bin", "rng_state.pth"}
LICENSES = {"LICENSE", "NOTICE.txt", "USE_POLICY.md"}
PROMPT = [{"role": "user", "content": "P . . .\n. . . .\n. O . .\n. . . G"}]


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from a local copy of the base, with a licence of its own; tests must not change it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("export")
    shutil.copytree(ASSETS / "tiny", folder / "base")
    (folder / "base" / "README.md").write_text("---\nlicense: other\nlicense_name: of-the-base\n---\n")
    for name in LICENSES:
        (folder / "base" / name).write_text("Theirs.")
    more = [f"model.path={folder / 'base'}", "lora.enabled=true", "algo.groups_per_update=6", "max_updates=2"]
    train_job(compose("train", [*SMALL, *more]), folder / "run", command=["test"], overrides=more)
    return folder / "run"


def logits(model: PreTrainedModel, folder: Path) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer.apply_chat_template(PROMPT, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        result: torch.Tensor = model(**encoded).logits
    return result


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def trained(checkpoint: Path) -> PreTrainedModel:
    model, _ = load_model(compose("train", [f"model.path={checkpoint}"]).model)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("merge", [True, False])
def test_an_adapter_merged_and_alone(lora_run: Path, tmp_path: Path, merge: bool) -> None:
    source = best(Run(lora_run))
    assert source is not None
    folder = export(str(lora_run), tmp_path / "out", merge=merge)
    assert names(folder) & OF_TRAINING == set() and names(folder) >= {"README.md", "msgrpo.json", *LICENSES}
    assert ("model.safetensors" in names(folder), "adapter_config.json" in names(folder)) == (merge, not merge)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    expected = logits(trained(source), source)
    assert (logits(loaded, folder) - expected).abs().max() < 1e-4
    base = AutoModelForCausalLM.from_pretrained(ASSETS / "tiny")
    assert (logits(base, folder) - expected).abs().max() > 1e-2, "so the tolerance tells something"
    card = (folder / "README.md").read_text()
    assert f"library_name: {'transformers' if merge else 'peft'}\n" in card and "of-the-base" in card
    assert ("adapter_config.json" in card) != merge
    if merge:
        own = GenerationConfig.from_pretrained(folder)
        assert own.to_diff_dict() == GenerationConfig.from_pretrained(ASSETS / "tiny").to_diff_dict()


def test_a_whole_model(finished_run: Path, tmp_path: Path) -> None:
    source = finished_run / "checkpoints" / "checkpoint-3"
    folder = export(str(source), tmp_path / "new" / "out", merge=False)
    assert names(folder) - {"results.json", "curve.png", "run_config.yaml"} == names(source) - OF_TRAINING
    first, second = load_file(source / "model.safetensors"), load_file(folder / "model.safetensors")
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder), folder), logits(trained(source), source))


@pytest.mark.parametrize("merge", [True, False])
def test_what_was_exported_is_scored_as_its_checkpoint(lora_run: Path, tmp_path: Path, merge: bool) -> None:
    folder = export(str(lora_run), tmp_path / "out", merge=merge)
    [result] = evaluate_subjects(asked_for(str(folder), ["eval.episodes=24"]), as_json=True)
    scored = json.loads((lora_run / "eval" / "best.json").read_text())
    assert result["base_score"] == scored["base_score"]
    most = 2 / 24 if merge else 0.0  # merged, sums are rounded otherwise, which may turn an episode
    assert abs(result["success_rate"] - scored["success_rate"]) <= most


def test_the_command_prints_the_folder_and_refuses_one_in_use(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert command(monkeypatch, "export", str(finished_run), "empty", "--merge") == 0
    assert capsys.readouterr().out == "empty\n"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    (tmp_path / "file").write_text("")
    for folder in ("empty", "file"):
        assert command(monkeypatch, "export", str(finished_run), folder) == 2
        said = capsys.readouterr()
        assert (said.out, said.err) == ("", f"error: {folder}: not empty; give a new folder\n")
    assert command(monkeypatch, "export", "nowhere", "out") == 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "file"} == before


def test_nothing_is_left_of_an_export_that_failed(lora_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(lora_run, run)
    weights = [checkpoint / "adapter_model.safetensors" for checkpoint in (run / "checkpoints").glob("checkpoint-*")]
    for file in weights:
        file.write_bytes(b"\x00" * file.stat().st_size)
    with pytest.raises(UsageError, match=r"adapter_model.safetensors: damaged: its content is not what was written"):
        export(str(run), tmp_path / "out", merge=True)
    for file in weights:
        describe(file.parent, read_metadata(file.parent))  # as if that had been written
    with pytest.raises(UsageError, match=r"adapter_model.safetensors: cannot be loaded"):
        export(str(run), tmp_path / "out", merge=True)
    assert names(tmp_path) == {"run"}
    for file in weights:
        file.unlink()
    with pytest.raises(UsageError, match=r"adapter_model.safetensors: missing"):
        export(str(run), tmp_path / "out", merge=False)
    assert names(tmp_path) == {"run"}


def test_the_folder_tells_its_run_and_the_hub_reads_its_results(finished_run: Path, tmp_path: Path) -> None:
    folder = export(str(finished_run), tmp_path / "out", merge=False)
    scores = json.loads((finished_run / "eval" / "best.json").read_text())
    assert json.loads((folder / "results.json").read_text()) == scores
    assert (folder / "curve.png").read_bytes() == (finished_run / "curve.png").read_bytes()
    card = ModelCard.load(folder / "README.md")
    read = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert read["success_rate"] == scores["success_rate"] and read["mean_total_reward"] == scores["mean_total_reward"]
    assert {(result.dataset_type, result.dataset_split) for result in card.data.eval_results} == {
        ("frozenlake", "test")
    }
    titles = [line for line in card.text.splitlines() if line.startswith("## ")]
    assert titles == [
        "## Game", "## Algorithm", "## Result", "## Learning curve", "## Commands", "## Use", "## Limits", "## License",
    ]  # fmt: skip
    assert "msgrpo train " + " ".join(SMALL) in card.text and "](curve.png)" in card.text
    assert yaml.safe_load((folder / "run_config.yaml").read_text())["algo"]["group_size"] == 4


def test_another_checkpoint_than_the_best_tells_no_results_of_it(finished_run: Path, tmp_path: Path) -> None:
    others = [path for path in sorted(finished_run.glob("checkpoints/*")) if path != best(Run(finished_run))]
    folder = export(str(others[0]), tmp_path / "out", merge=False)
    assert not (folder / "results.json").exists() and (folder / "curve.png").exists()


def test_places_on_this_machine_are_told_to_nobody(lora_run: Path, tmp_path: Path) -> None:
    folder = export(str(lora_run), tmp_path / "out", merge=True)
    for name in ("README.md", "run_config.yaml"):
        assert str(lora_run.parent) not in (folder / name).read_text(), name
    assert "model.path=base" in (folder / "README.md").read_text()
