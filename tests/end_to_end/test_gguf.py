"""A GGUF file as the model of a run: trained, resumed, scored, exported, planned for; bad ones are refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.saved import load_saved
from msgrpo_cli.evaluation.evaluate import evaluate_subjects
from msgrpo_cli.evaluation.targets import asked_for
from msgrpo_cli.launch.doctor_machine import memory_needed
from msgrpo_cli.launch.doctor_trial import tokenizer
from msgrpo_cli.planning.dry_run import derived
from msgrpo_cli.runs.checkpoint import read_metadata
from support.commands import run as command
from support.gguf_files import small_model, write_gguf

SHORT = [
    "model=any", "env=frozenlake", "env.max_steps=4", "prompt=action_only", "prompt.observation=compact",
    "prompt.system=null", "rollout.max_prompt_tokens=300", "rollout.max_new_tokens=6",
    "algo.groups_per_update=2", "algo.group_size=3", "algo.episode_sampling=all", "algo.invalid_action=random",
    "max_updates=2", "eval.every=0", "eval.episodes=2", "save.every=1", "trainer.use_cpu=true",
    "trainer.learning_rate=1e-3", "trainer.per_device_train_batch_size=8", "trainer.gradient_checkpointing=false",
    "trainer.lr_scheduler_type=constant",
]  # fmt: skip
ADAPTER = ["lora.enabled=true", "lora.r=4"]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "small.gguf", small_model(), quantized="Q4_1")


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    [stored] = [*checkpoint.glob("*model.safetensors")]
    return load_file(stored)


def equal(first: Path, second: Path) -> bool:
    ours, theirs = weights(first), weights(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def score(target: Path | str, *overrides: str) -> Any:
    [found] = evaluate_subjects(asked_for(str(target), ["eval.episodes=2", *overrides]), as_json=True)
    return found["mean_total_reward"]


@pytest.mark.parametrize("adapter", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["whole", "adapter"])
def test_a_run_is_trained_goes_on_plays_and_is_exported(
    adapter: bool, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named by a relative path, and from another directory afterwards."""
    monkeypatch.chdir(file.parent)
    run, again = tmp_path / "run", tmp_path / "again"
    more = ADAPTER if adapter else []
    chosen = ["train", *SHORT, *more, f"model.path={file.name}", f"hydra.run.dir={run}"]
    assert command(monkeypatch, *chosen) == 0
    said = capsys.readouterr().err
    assert "Traceback" not in said and "quantizing" not in said
    monkeypatch.chdir(tmp_path)
    assert load_saved(run / "config.yaml").model.path == str(file)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    updates = [row for row in rows if row["kind"] == "train"]
    assert [row["update"] for row in updates] == [1, 2]
    assert all(row["grad_norm"] > 0 and row["logprob_gap_max"] < 1e-4 for row in updates)

    last = run / "checkpoints" / "checkpoint-2"
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / last.name)
    assert command(monkeypatch, "train", "--resume", str(again)) == 0
    assert equal(last, again / "checkpoints" / last.name)

    assert command(monkeypatch, "export", str(last), str(tmp_path / "exported")) == 0
    assert score(last) == score(tmp_path / "exported")
    card = (tmp_path / "exported" / "README.md").read_text()
    assert "base_model: small.gguf\n" in card and "license: apache-2.0\n" in card and str(file.parent) not in card
    whole = tmp_path / "exported"
    if adapter:
        assert read_metadata(last)["base"] == str(file) and not (run / "base").exists()
        assert command(monkeypatch, "export", str(last), str(tmp_path / "merged"), "--merge") == 0
        whole = tmp_path / "merged"
    assert "quant" not in (whole / "config.json").read_text()
    assert AutoModelForCausalLM.from_pretrained(whole).dtype == torch.float32


def test_it_is_scored_and_started_from(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play = SHORT[1:8]
    assert command(monkeypatch, "eval", str(file), *play, "eval.episodes=2", "--json") == 0
    direct = json.loads(capsys.readouterr().out)["mean_total_reward"]
    assert direct == score(file, *play)
    assert command(monkeypatch, "train", "--from", str(file), *SHORT, f"hydra.run.dir={tmp_path / 'run'}") == 0
    assert load_saved(tmp_path / "run" / "config.yaml").model.path == str(file)


def test_plan_dry_run_and_doctor_know_its_shape(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    parameters = small_model().num_parameters()
    config = compose("train", [*SHORT, f"model.path={file}"])
    assert derived(config)["parameters"] == parameters
    adapted = derived(compose("train", [*SHORT, f"model.path={file}", *ADAPTER]))
    shapes = [parameter.shape for name, parameter in small_model().named_parameters() if "proj" in name]
    assert adapted["trainable_parameters"] == sum(4 * sum(shape) for shape in shapes)
    assert memory_needed(config) == 16 * parameters
    assert "all actions come back unchanged" in tokenizer(config)
    assert command(monkeypatch, "train", *SHORT, f"model.path={file}", "--dry-run") == 0
    assert "# first_prompt_tokens: " in capsys.readouterr().out
    assert command(monkeypatch, "plan", *SHORT, f"model.path={file}") == 0
    assert capsys.readouterr().out and not list(tmp_path.iterdir())


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


BAD = {
    "missing": (lambda file: file.unlink(), "no such file"),
    "text": (
        lambda file: file.write_text("weights, honestly, they are"),
        "no GGUF file: it does not begin with GGUF",
    ),
    "cut": (cut, "damaged: "),
    "unknown": (
        lambda file: write_gguf(file, small_model(), architecture="xyzzy"),
        "its architecture is xyzzy, which transformers ",
    ),
    "adapter": (
        lambda file: write_gguf(file, small_model(), keys=lambda writer: writer.add_type("adapter")),
        "a GGUF file that holds no model, but: adapter",
    ),
    "part": (
        lambda file: write_gguf(file, small_model(), keys=lambda writer: writer.add_uint16("split.count", 3)),
        "one of 3 parts; llama-gguf-split --merge makes one file of them",
    ),
    "layers": (
        lambda file: write_gguf(file, small_model(), keys=lambda writer: writer.add_block_count(3)),
        "its header and its tensors disagree: llama.block_count says 3 layers, and there are tensors of 2; ",
    ),
    "heads": (
        lambda file: write_gguf(file, small_model(), keys=lambda writer: writer.add_head_count(3)),
        "its header and its tensors disagree: blk.0.attn_q.weight is 32 x 32, where its header asks for 30 x 32 (",
    ),
    "context": (
        lambda file: write_gguf(file, small_model(), keys=lambda writer: writer.add_context_length(0)),
        "its header and its tensors disagree: llama.context_length is 0, where a whole number from 1 is meant",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_before_anything_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    file = write_gguf(tmp_path / "bad.gguf", small_model())
    make, said = BAD[name]
    make(file)
    train = ["train", *SHORT, f"model.path={file}"]
    for line in (train, [*train, "--dry-run"], ["eval", str(file)], ["plan", *train[1:]]):
        assert command(monkeypatch, *line) == 2, line
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith(f"error: model.path={file}: {said}")
    assert not list((tmp_path / "here").iterdir())


def test_a_missing_package_is_named(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "gguf", None)
    for line in (["train", *SHORT, f"model.path={file}"], ["eval", str(file)]):
        assert command(monkeypatch, *line) == 2
        said = f"error: model.path={file}: the package gguf is not installed; pip install 'msgrpo[gguf]'"
        assert capsys.readouterr().err.strip() == said
    assert not list(tmp_path.iterdir())


def test_what_does_not_go_with_it_is_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = {
        ("lora.enabled=true", "lora.quantization=4bit"): "lora.quantization=4bit: not of a GGUF file",
        ("engine=vllm_colocate",): f"model.path={file}: engine=vllm_colocate would read the file by itself",
    }
    for more, said in refused.items():
        assert command(monkeypatch, "train", *SHORT, f"model.path={file}", *more) == 2
        assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
