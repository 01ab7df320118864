"""A template that prints today's date: the run's day is kept, and read again on any other."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.saved import load_saved
from msgrpo_cli.evaluation.evaluate import evaluate_subjects
from msgrpo_cli.evaluation.targets import asked_for
from msgrpo_cli.models import conversation
from msgrpo_cli.runs.reader import read_run
from msgrpo_cli.training.train import train_job
from support.templates import DATED, DATED_SYSTEM
from support.zoo import ZOO

OVERRIDES = [
    "model=any", "env=guess_number", "prompt=action_only", "rollout.max_prompt_tokens=900", "rollout.max_new_tokens=4",
    "algo.groups_per_update=1", "algo.group_size=2", "algo.episode_sampling=all", "algo.invalid_action=random",
    "max_updates=2", "eval.every=0", "eval.episodes=2", "save.every=1", "trainer.use_cpu=true",
    "trainer.gradient_checkpointing=false",
]  # fmt: skip


class _Another(datetime.date):
    """A machine whose clock says so."""

    @classmethod
    def today(cls) -> _Another:
        return cls(2031, 5, 17)


@pytest.mark.slow
@pytest.mark.parametrize("template", [DATED, DATED_SYSTEM], ids=["always", "beside a system text"])
def test_a_run_reads_the_day_on_which_it_began(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, run = replace(ZOO["llama-3"], template=template).save(tmp_path / "model"), tmp_path / "run"
    config = compose("train", [*OVERRIDES, f"model.path={model}"])
    first: dict[str, Any] = {"command": ["test"], "overrides": []}
    train_job(config.model_copy(update={"max_updates": 1}), run, **first)
    today = datetime.date.today().isoformat()
    assert f"the chat template reads the date: {today} (prompt.date)" in " ".join(capsys.readouterr().err.split())
    saved = load_saved(run / "config.yaml")
    assert saved.prompt.date == today and read_run(run).config["prompt"]["date"] == today
    monkeypatch.setattr(conversation.datetime, "date", _Another)
    train_job(saved.model_copy(update={"max_updates": 2}), run, **first, resume=run)
    kept = [json.loads(file.read_text())["prompt"]["date"] for file in run.glob("checkpoints/*/msgrpo.json")]
    assert kept == [today] * 2
    capsys.readouterr()
    for overrides, said in (([], today), (["prompt.date=2020-02-29"], "2020-02-29")):
        evaluate_subjects(asked_for(str(run), ["eval.episodes=2", *overrides]), as_json=True)
        assert f"reads the date: {said}" in " ".join(capsys.readouterr().err.split())
    evaluate_subjects(asked_for(str(model), [*OVERRIDES[1:5], "eval.episodes=2"]), as_json=True)
    assert "reads the date: 2031-05-17" in " ".join(capsys.readouterr().err.split())
