"""Tokens are neither saved nor shown: not from the environment, not from the command line, not from a config file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from msgrpo_cli import UsageError
from msgrpo_cli.common.secrets import masked, refuse_in_config, refuse_in_overrides
from msgrpo_cli.config.compose import compose

TOKEN = "hf_" + "Zz9" * 11
OTHER = "another-secret-of-a-tracker"


def test_known_secrets_and_what_looks_like_a_token_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", OTHER)
    monkeypatch.setenv("HF_TOKEN", "abc")
    assert masked(f"401 for {TOKEN}, key={OTHER}; abc") == "401 for ***, key=***; abc"
    assert masked("models/hf_small") == "models/hf_small"


@pytest.mark.parametrize(
    "override",
    [
        f"trainer.hub_token={TOKEN}",
        f"+trainer.hub_token={TOKEN}",
        "trainer.hub_token=secret",
        f"model.path=https://user:{TOKEN}@hub/x",
        f"+{TOKEN}=1",
        OTHER,
    ],
)
def test_an_override_with_a_token_is_refused_without_repeating_it(
    override: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", OTHER)
    with pytest.raises(UsageError) as refusal:
        compose("train", ["seed=1", override])
    assert "hf auth login" in str(refusal.value)
    for secret in (TOKEN, OTHER, "secret"):
        assert secret not in str(refusal.value)


def test_ordinary_overrides_pass() -> None:
    refuse_in_overrides(["seed=1", "rollout.max_new_tokens=8", "trainer.hub_token=null", "~lora", "model.path=hf_x"])
    refuse_in_config({"trainer": {"hub_token": None, "beta": 0.1}, "rollout": {"max_new_tokens": 8}})


@pytest.mark.parametrize("value", ["${oc.env:HF_TOKEN}", TOKEN])
def test_a_config_file_with_a_token_is_refused(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\ntrainer:\n  hub_token: {value}\n")
    with pytest.raises(UsageError, match=r"^trainer\.hub_token: a token in a config would be saved") as refusal:
        compose("train", ["experiment=mine"], [tmp_path])
    assert TOKEN not in str(refusal.value)


@pytest.mark.slow
def test_a_run_with_a_token_in_its_environment_writes_and_shows_it_nowhere(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    small = ("experiment=smoke", "max_updates=1", "eval.episodes=8", "trainer.report_to=tensorboard")
    ended = subprocess.run(
        [sys.executable, "-m", "msgrpo_cli", "train", *small, "hydra.run.dir=run", "-v"],
        cwd=tmp_path,
        env={**os.environ, "HF_TOKEN": TOKEN, "WANDB_API_KEY": OTHER},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("tfevents" in path.name for path in files) and (tmp_path / "run" / "log.txt") in files
    for secret in (TOKEN, OTHER):
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
        assert secret not in ended.stdout + ended.stderr
