"""No environment variable of a library decides what the config decides."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.models.surroundings import neutral_surroundings, overruling
from msgrpo_cli.training.train import train_job
from support.small_run import SMALL

SET = {
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_DYNAMO_BACKEND": "inductor",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "FSDP_OFFLOAD_PARAMS": "true",
}


def test_what_is_set_is_taken_away_told_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SET, "ACCELERATE_LOG_LEVEL": "info"}.items():
        monkeypatch.setenv(name, value)
    said: list[str] = []
    with neutral_surroundings(said.append):
        assert not set(SET) & set(os.environ) and os.environ["ACCELERATE_LOG_LEVEL"] == "info"
        assert overruling() == {}
    assert {name: os.environ[name] for name in SET} == SET
    assert len(said) == len(SET)
    assert "warning: ACCELERATE_MIXED_PRECISION=bf16 is not read: trainer.bf16 and trainer.fp16 decide" in said


def test_a_run_computes_in_what_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["max_updates=1", "eval.every=0", "eval.episodes=2", "trainer.use_cpu=true"]
    rows = []
    for name in ("plain", "overruled"):
        train_job(compose("train", [*SMALL, *few]), tmp_path / name, command=["test"], overrides=[])
        [row] = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()][1:2]
        rows.append({key: value for key, value in row.items() if not key.startswith("perf/")})
        for variable, value in SET.items():
            monkeypatch.setenv(variable, value)
    assert rows[0] == rows[1] and rows[0]["logprob_gap_max"] < 1e-5
    assert json.loads((tmp_path / "overruled" / "run.json").read_text())["precision"] == "float32"
    assert "ACCELERATE_MIXED_PRECISION=bf16 is not read" in capsys.readouterr().err
