"""Every architecture of the zoo: what is sampled is what is trained, and what is saved is what plays on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from msgrpo_cli.config.compose import compose
from msgrpo_cli.evaluation.evaluate import evaluate_subjects
from msgrpo_cli.evaluation.targets import asked_for
from msgrpo_cli.models.export import export
from msgrpo_cli.training.train import train_job
from support.zoo import ZOO

pytestmark = pytest.mark.slow

SHORT = [
    "model=any", "env=guess_number", "prompt=action_only", "rollout.max_prompt_tokens=900", "rollout.max_new_tokens=6",
    "algo.groups_per_update=2", "algo.group_size=3", "algo.episode_sampling=all", "algo.invalid_action=random",
    "max_updates=2", "eval.every=0", "eval.episodes=2", "save.every=1", "trainer.use_cpu=true",
    "trainer.learning_rate=1e-3", "trainer.per_device_train_batch_size=8", "trainer.gradient_checkpointing=false",
    "trainer.disable_dropout=true", "trainer.lr_scheduler_type=constant",
]  # fmt: skip
WAYS = {
    "separate": ["algo.share_prompts=false"],
    "checkpointed": ["trainer.gradient_checkpointing=true"],
    "adapter": ["lora.enabled=true", "lora.r=4"],
}


def train(folder: Path, model: Path, *overrides: str, **more: Any) -> list[dict[str, Any]]:
    """The rows of the updates of a short run."""
    chosen = [*SHORT, f"model.path={model}", *overrides]
    train_job(compose("train", chosen), folder, command=["test"], overrides=chosen, **more)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == "train"]


def is_trained_as_sampled(rows: list[dict[str, Any]]) -> bool:
    return [row["update"] for row in rows] == [1, 2] and all(
        row["grad_norm"] > 0 and row["logprob_gap_max"] < 1e-4 for row in rows
    )


@pytest.mark.parametrize("name", ZOO)
def test_what_is_sampled_is_what_is_trained(name: str, tmp_path: Path) -> None:
    model = ZOO[name].save(tmp_path / "model")
    for way, overrides in WAYS.items():
        if way == "adapter" and (refused := ZOO[name].no_adapter) is not None:
            with pytest.raises(Exception, match=refused[0]):
                train(tmp_path / way, model, *overrides)
            continue
        rows = train(tmp_path / way, model, *overrides)
        assert is_trained_as_sampled(rows), (way, rows)


@pytest.mark.parametrize("name", ZOO)
def test_what_is_saved_goes_on_plays_and_is_exported(name: str, tmp_path: Path) -> None:
    """Equal prompts are read once here, where the architecture allows it."""
    model, run, again, last = ZOO[name].save(tmp_path / "model"), tmp_path / "run", tmp_path / "again", "checkpoint-2"
    assert is_trained_as_sampled(train(run, model))
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / last)
    train(again, model, resume=again)
    straight, resumed = (load_file(each / "checkpoints" / last / "model.safetensors") for each in (run, again))
    assert straight.keys() == resumed.keys() and all(torch.equal(straight[key], resumed[key]) for key in straight)
    exported = export(str(run / "checkpoints" / last), tmp_path / "exported", merge=False)
    scores = []
    for place in (run / "checkpoints" / last, exported):
        [found] = evaluate_subjects(asked_for(str(place), ["eval.episodes=2"]), as_json=True)
        scores.append(found["mean_total_reward"])
    assert scores[0] == scores[1]
