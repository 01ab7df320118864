"""A run that an earlier program left (commit 6f02902, before there were packages): everything still reads it.

The archive holds the run, its model, what that program's own `msgrpo eval run eval.episodes=12 --json` said, and the
metrics after its own `msgrpo train --resume run max_updates=3`. It was made, with one thread, by

    msgrpo train experiment=smoke model=any model.path=base prompt=action_only prompt.observation=compact max_updates=2
        algo.groups_per_update=4 algo.group_size=6 algo.invalid_action=random eval.episodes=12 eval.every=1
        save.every=1 save.keep_last=1 rollout.max_new_tokens=6 trainer.learning_rate=1e-3 trainer.beta=0.02
        env.size=3 env.max_steps=8 hydra.run.dir=run

where `base` is a Qwen2 of 6528 random parameters with a tokenizer of bytes.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.commands import run as msgrpo
from support.places import ROOT

pytest.importorskip("torch")
ARCHIVE = ROOT / "tests/support/data/old_run.tar.gz"


_OTHERWISE = {
    "wall_seconds",
    "tokens_read",  # beginnings of prompts were read for each
    "tokens_padding",
    "tokens_distinct",  # was not there
    "success_ci95",  # resampled starts
    "mean_total_reward_ci95",
    "overlap_with_training",  # was that of states, by the part that they belong to
    "overlap_of_decisions",  # was not there, as is the next
    "distinct_initial_texts",
    "not_held_out",
    "overridden",
    "smallest_detectable_difference",  # is unknown where so few pairs differ
}


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which that run was started."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def figures(row: Mapping[str, Any]) -> dict[str, Any]:
    """What no clock measured, nor is told otherwise today; another processor may round the last digits otherwise."""
    plain = {key: value for key, value in row.items() if not key.startswith("perf/") and key not in _OTHERWISE}
    return {
        key: pytest.approx(value, rel=1e-3, abs=1e-4) if isinstance(value, float) else value
        for key, value in plain.items()
    }


def test_it_is_scored_as_it_was(old: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert msgrpo(monkeypatch, "eval", "run", "eval.episodes=12", "--json") == 0
    then = json.loads((old / "evaluation.json").read_text())
    now = json.loads(capsys.readouterr().out)
    assert {key: now[key] for key in figures(now)} == figures(then)
    assert now["overlap_with_training"] is None, "it did not keep what it trained on"


def test_it_goes_on_as_it_would_have(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, optimizer, reference, random states and rows: all of it is read back."""
    assert msgrpo(monkeypatch, "train", "--resume", "run", "max_updates=3") == 0
    now, then = (
        [json.loads(line) for line in (old / name).read_text().splitlines()]
        for name in ("run/metrics.jsonl", "resumed.metrics.jsonl")
    )
    assert [{key: row[key] for key in figures(row)} for row in now] == [figures(row) for row in then]


def test_it_is_read(old: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        assert msgrpo(monkeypatch, *arguments) == 0
        return capsys.readouterr().out

    assert "step 1/" in said("replay", "run", "--worst", "1", "--text")
    assert json.loads(said("replay", "run", "--json", "--limit", "2"))
    assert "env=frozenlake, model=any" in said("report", "run", "--html", "page.html")
    assert "frozenlake" in (old / "page.html").read_text()
    assert json.loads(said("runs", "show", "run", "--json"))["status"] == "done"
    assert "update 2 of 2" in said("watch", "run", "--once") or "2/2" in said("watch", "run", "--once")
    assert said("export", "run", "exported").strip() == "exported"
    assert (old / "exported/config.json").is_file()
