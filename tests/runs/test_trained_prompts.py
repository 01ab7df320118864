"""What a run trained on: kept in its checkpoints, told in its evaluations, taken over by what goes on from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.evaluation.evaluate import evaluate_subjects
from msgrpo_cli.evaluation.targets import asked_for
from msgrpo_cli.models.export import export
from msgrpo_cli.rollout.trained_prompts import TrainedPrompts
from msgrpo_cli.runs.checkpoint import from_weights
from msgrpo_cli.runs.episodes import episode_from_json
from msgrpo_cli.runs.trained_prompts import trained_before, trained_prompts
from msgrpo_cli.training.train import train_job
from support.small_run import SMALL

FILE = "trained_prompts.npy"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def logged(run: Path, update: int) -> set[int]:
    """From the rows alone: every decision of a drawn episode of an update that took a step."""
    metrics = rows(run / "metrics.jsonl")
    took = {row["update"] for row in metrics if row["kind"] == "train" and not row["skipped"]}
    found = TrainedPrompts(history=0)
    lines = [line for line in rows(run / "episodes.jsonl") if line["drawn"] and line["update"] <= update]
    found.add(episode_from_json(line) for line in lines if line["update"] in took)
    return set(found.hashes.tolist())


def kept(run: Path, update: int) -> set[int]:
    return set(np.load(run / "checkpoints" / f"checkpoint-{update}" / FILE).tolist())


def evaluated(target: Path, *overrides: str) -> dict[str, Any]:
    [found] = evaluate_subjects(asked_for(str(target), ["eval.episodes=40", *overrides]), as_json=True)
    return found


def test_a_checkpoint_keeps_what_was_trained_on_until_then(finished_run: Path) -> None:
    assert kept(finished_run, 2) == logged(finished_run, 2)
    assert kept(finished_run, 3) == logged(finished_run, 3) >= kept(finished_run, 2) != set()
    assert json.loads((finished_run / "checkpoints/checkpoint-3/msgrpo.json").read_text())["files"][FILE]["sha256"]


def test_evaluations_of_the_run_tell_the_overlap_so_far(finished_run: Path) -> None:
    found = {row["update"]: row for row in rows(finished_run / "metrics.jsonl") if row.get("split") == "validation"}
    assert (found[0]["overlap_with_training"], found[0]["overlap_of_decisions"]) == (0.0, 0.0)
    assert found[3]["overlap_with_training"] == 0.0, "starts of another part"
    hashes = kept(finished_run, 3)
    last = [episode_from_json(line) for line in rows(finished_run / "eval" / "validation-3.episodes.jsonl")]
    assert found[3]["overlap_of_decisions"] == TrainedPrompts(0, hashes).overlap(last).decisions


@pytest.mark.slow
def test_an_evaluation_of_starts_that_were_trained_on_says_so(finished_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    held_out, trained = evaluated(run), evaluated(run, "eval.split=train")
    assert held_out["overlap_with_training"] == 0.0
    assert trained["overlap_with_training"] > 0.0 and trained["overlap_of_decisions"] > 0.0
    shown_otherwise = evaluated(run, "prompt.observation=full", "rollout.max_prompt_tokens=200")
    assert shown_otherwise["overlap_with_training"] is None and shown_otherwise["overlap_of_decisions"] is None
    exported = export(str(run), tmp_path / "exported", merge=False)
    assert evaluated(exported, "eval.split=train")["overlap_of_decisions"] == trained["overlap_of_decisions"]


def test_a_resumed_run_ends_with_the_same_set(finished_run: Path, tmp_path: Path) -> None:
    config = compose("train", [*SMALL, "max_updates=2", "eval.every=0", "eval.episodes=2"])
    train_job(config, tmp_path / "run", command=["test"], overrides=[])
    again = config.model_copy(update={"max_updates": 3})
    train_job(again, tmp_path / "run", command=["test"], overrides=[], resume=tmp_path / "run")
    assert kept(tmp_path / "run", 3) == kept(finished_run, 3)


def test_a_run_from_a_checkpoint_has_its_past(finished_run: Path, tmp_path: Path) -> None:
    source = finished_run / "checkpoints" / "checkpoint-3"
    before = trained_before(from_weights(compose("train", SMALL), source))
    assert before is not None and set(before.hashes.tolist()) == kept(finished_run, 3)
    nothing = trained_before(compose("train", SMALL))
    assert nothing is not None and not len(nothing.hashes)
    copy = shutil.copytree(source, tmp_path / "checkpoint-3")
    metadata = json.loads((copy / "msgrpo.json").read_text())
    del metadata["files"][FILE]
    (copy / "msgrpo.json").write_text(json.dumps(metadata))
    (copy / FILE).unlink()
    assert trained_before(from_weights(compose("train", SMALL), copy)) is None, "made before it was kept"


@pytest.mark.parametrize(("key", "value"), [("observation", "full"), ("history", 2)])
def test_states_shown_in_another_way_are_not_compared(finished_run: Path, key: str, value: Any) -> None:
    prompt = compose("train", SMALL).prompt
    checkpoint = finished_run / "checkpoints" / "checkpoint-3"
    assert trained_prompts(checkpoint, prompt) is not None
    assert trained_prompts(checkpoint, prompt.model_copy(update={key: value})) is None


def test_updates_whose_every_step_was_withheld_trained_on_nothing(tmp_path: Path) -> None:
    config = compose("train", [*SMALL, "max_updates=1", "eval.every=0", "eval.episodes=2", "guard.grad_norm=1e-9"])
    train_job(config, tmp_path / "run", command=["test"], overrides=[])
    [row] = [row for row in rows(tmp_path / "run" / "metrics.jsonl") if row["kind"] == "train"]
    assert row["withheld_steps"] == 1 and kept(tmp_path / "run", 1) == set()
