"""Runs that train an adapter: what is trained, scored, kept, resumed and built upon."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.saved import load_saved
from msgrpo_cli.errors import UsageError
from msgrpo_cli.evaluation.evaluate import evaluate_subjects
from msgrpo_cli.evaluation.targets import asked_for
from msgrpo_cli.launch.run import weights_of, with_weights
from msgrpo_cli.models.loading import load_model
from msgrpo_cli.planning.dry_run import derived
from msgrpo_cli.runs.checkpoint import read_metadata
from msgrpo_cli.runs.pretrained import ASSETS
from msgrpo_cli.training.train import train_job
from support.small_run import SMALL

LORA = [*SMALL, "lora.enabled=true", "trainer.lr_scheduler_type=constant", "algo.groups_per_update=6"]
LORA += ["eval.episodes=12"]


def rows(path: Path, kind: str = "train") -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, without what the clock measured."""
    read = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        {key: value for key, value in row.items() if not key.startswith("perf/")} for row in read if row["kind"] == kind
    ]


def train(run: Path, *overrides: str, source: Path | None = None, **more: Any) -> dict[str, Any]:
    config = with_weights(compose("train", [*LORA, *overrides]), source)
    return train_job(config, run, command=["test"], overrides=list(overrides), **more)


def evaluated(target: Path, *overrides: str) -> dict[str, Any]:
    [result] = evaluate_subjects(asked_for(str(target), ["eval.episodes=12", *overrides]), as_json=True)
    return result


def scores(evaluation: Path | dict[str, Any]) -> tuple[Any, ...]:
    read = json.loads(evaluation.read_text()) if isinstance(evaluation, Path) else evaluation
    return tuple(read[key] for key in ("success_rate", "greedy_success_rate", "valid_action_rate", "mean_length"))


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three updates with a KL term; tests must not change it."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("lora") / "straight"
    train(run, "trainer.beta=0.1")
    return run


def test_only_the_adapter_is_trained_and_kept(lora_run: Path) -> None:
    folder = lora_run / "checkpoints" / "checkpoint-3"
    assert not list(folder.glob("model*")) and not (lora_run / "base").exists()
    weights = load_file(folder / "adapter_model.safetensors")
    config = load_saved(lora_run / "config.yaml")
    assert sum(tensor.numel() for tensor in weights.values()) == derived(config)["trainable_parameters"] == 230_400
    assert all("lora_" in name for name in weights)
    assert any(tensor.abs().max() > 0 for name, tensor in weights.items() if "lora_B" in name), "it has learnt"
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], len(settings["target_modules"])) == (32, 32, 7)


def test_ten_times_the_learning_rate_stands_in_config_and_metrics(lora_run: Path) -> None:
    assert load_saved(lora_run / "config.yaml").trainer["learning_rate"] == 5e-3
    assert {row["learning_rate"] for row in rows(lora_run / "metrics.jsonl")} == {5e-3}


def test_the_reference_of_the_kl_term_is_the_model_without_its_adapter(lora_run: Path) -> None:
    kl = [row["kl"] for row in rows(lora_run / "metrics.jsonl")]
    assert kl[0] == pytest.approx(0.0, abs=1e-6) and kl[1] > 1e-6
    assert not (lora_run / "reference").exists(), "no second copy"


def test_weights_trained_are_weights_sampled_from(lora_run: Path) -> None:
    trained = rows(lora_run / "metrics.jsonl")
    assert [row["skipped"] for row in trained] == [False] * 3
    assert all(row["logprob_gap_max"] < 1e-4 for row in trained)


def test_a_checkpoint_read_back_plays_as_in_training(lora_run: Path) -> None:
    """Unmerged, so with the very same sums; the base beside it is the run's own."""
    run = lora_run.with_name("read-back")
    shutil.copytree(lora_run, run)
    again = evaluated(run / "checkpoints" / "checkpoint-3", "eval.split=validation")
    assert scores(again) == scores(run / "eval" / "validation-3.json")
    best = evaluated(run)
    assert scores(best) == scores(run / "eval" / "best.json")
    assert best["base_score"] == json.loads((run / "eval" / "best.json").read_text())["base_score"] is not None


def test_a_resumed_run_equals_an_uninterrupted_one(lora_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "resumed"
    train(run, "trainer.beta=0.1", "max_updates=2")
    train(run, "trainer.beta=0.1", resume=run)
    assert rows(run / "metrics.jsonl") == rows(lora_run / "metrics.jsonl")
    assert (run / "episodes.jsonl").read_text() == (lora_run / "episodes.jsonl").read_text()
    first, second = (load_file(path / "checkpoints/checkpoint-3/adapter_model.safetensors") for path in (run, lora_run))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_random_weights_are_kept_in_the_run_which_can_be_copied(tmp_path: Path) -> None:
    """Every answer is invalid, so a random move is played and some episodes win: there is something to learn from."""
    random = ["model.init=random", "seed=3", "algo.invalid_action=random", "algo.groups_per_update=12", "eval.every=0"]
    run, straight = tmp_path / "run", tmp_path / "straight"
    train(run, *random, "max_updates=1")
    assert read_metadata(run / "checkpoints" / "checkpoint-1")["base"] == "../../base"
    assert str(tmp_path) not in (run / "config.yaml").read_text()
    moved = tmp_path / "elsewhere" / "copy"
    shutil.copytree(run, moved)
    shutil.rmtree(run)
    train(moved, *random, "max_updates=2", resume=moved)
    train(straight, *random, "max_updates=2")
    assert rows(moved / "metrics.jsonl") == rows(straight / "metrics.jsonl")
    assert not all(row["skipped"] for row in rows(moved / "metrics.jsonl"))
    best = json.loads((moved / "eval" / "best.json").read_text())
    assert scores(evaluated(moved / best["checkpoint"])) == scores(moved / "eval" / "best.json")
    shutil.rmtree(moved / "base")
    with pytest.raises(UsageError, match=r"checkpoint-2: an adapter whose base is not at .*/copy/base; copy the whole"):
        load_model(compose("train", [f"model.path={moved}/checkpoints/checkpoint-2"]).model)


@pytest.mark.slow
@pytest.mark.parametrize("lora", ["true", "false"])
def test_from_an_adapter_its_merged_weights_are_the_new_base(lora_run: Path, tmp_path: Path, lora: str) -> None:
    source = lora_run / "checkpoints" / "checkpoint-3"
    run = tmp_path / "next"
    more = [f"lora.enabled={lora}", "trainer.beta=0.1", "max_updates=1", "algo.groups_per_update=24"]
    train(run, *more, source=weights_of(str(source), more))
    assert scores(run / "eval" / "validation-0.json") == scores(lora_run / "eval" / "validation-3.json")
    assert rows(run / "metrics.jsonl")[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    merged, _ = load_model(compose("train", [f"model.path={source}"]).model, merge=True)
    kept = AutoModelForCausalLM.from_pretrained(run / ("base" if lora == "true" else "reference"))
    theirs, base = kept.state_dict(), AutoModelForCausalLM.from_pretrained(ASSETS / "tiny").state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in merged.state_dict().items())
    assert not torch.equal(theirs["model.layers.0.mlp.up_proj.weight"], base["model.layers.0.mlp.up_proj.weight"])
    whole = load_file(run / "checkpoints/checkpoint-1/model.safetensors") if lora == "false" else None
    assert whole is None or not torch.equal(whole["model.embed_tokens.weight"], theirs["model.embed_tokens.weight"])


@pytest.mark.slow
def test_the_source_of_a_run_may_go_once_its_weights_are_merged(lora_run: Path, tmp_path: Path) -> None:
    source, run = tmp_path / "source", tmp_path / "next"
    shutil.copytree(lora_run, source)
    train(run, "max_updates=1", source=source)
    shutil.rmtree(source)
    train_job(
        load_saved(run / "config.yaml").model_copy(update={"max_updates": 2}), run, command=[], overrides=[], resume=run
    )
    assert [row["update"] for row in rows(run / "metrics.jsonl")] == [1, 2]
    assert evaluated(run, "env=frozenlake_slippery")["base_score"] is not None


@pytest.mark.parametrize("target", ["[q_proj,k_prj]", "[k_prj]", "'model\\.layers\\.9.*'"])
def test_a_layer_that_is_not_there_is_named_before_anything_is_kept(tmp_path: Path, target: str) -> None:
    with pytest.raises(UsageError, match=r"lora.target_modules=.*: fits no linear layer of this model; .* q_proj"):
        train(tmp_path / "run", "model.init=random", f"lora.target_modules={target}")
    assert not (tmp_path / "run" / "base").exists()


def test_a_broken_adapter_is_named(lora_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(lora_run / "checkpoints" / "checkpoint-3", folder)
    (folder / "adapter_model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(UsageError, match=r"broken/adapter_model.safetensors: cannot be loaded"):
        load_model(compose("train", [f"model.path={folder}"]).model)
