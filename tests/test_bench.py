"""The benchmarks: what they count is what was played and trained on; times are told, never tested."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from msgrpo_cli.bench.learn import reached
from msgrpo_cli.bench.limit import Pair, rollout_limit, update_limit
from msgrpo_cli.bench.rollout import Recording, bench_rollout
from msgrpo_cli.bench.update import bench_update
from msgrpo_cli.bench.watch import watching
from msgrpo_cli.cli import main
from msgrpo_cli.config import compose
from msgrpo_cli.generation import Request, Sampling, generate
from parts import small_model

FEW = ["algo.groups_per_update=2", "algo.group_size=4"]
PROMISED = {
    "decisions_per_second", "tokens_per_second", "seconds", "limit_seconds", "time_over_limit", "padding_share",
    "duplicate_prompt_share", "peak_memory_bytes", "machine",
}  # fmt: skip
BATCHES: list[list[Pair]] = [[((7, 8, 9), (10, 5)), ((7, 8, 9), (5,)), ((7, 8), (11, 12, 5))], [((7, 8), (5,))]]


def msgrpo(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("msgrpo_cli.cli.heed_signals", lambda: None)
    monkeypatch.setattr(sys, "argv", ["msgrpo", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_limit_reads_exactly_the_tokens() -> None:
    model, _ = small_model()
    with watching(model) as watch:
        rollout_limit(model, BATCHES, distinct=False)
    assert watch.positions == (3 + 3 + 2 + 2) + (1 + 0 + 2 + 0)  # prompts; an answer's last token is never read
    with watching(model) as watch:
        rollout_limit(model, BATCHES, distinct=True)
    assert watch.positions == (3 + 2 + 2) + (1 + 2)
    with watching(model) as watch:
        update_limit(model, BATCHES, distinct=False)
    assert watch.positions == (3 + 3 + 2 + 2) + (1 + 0 + 2 + 0)
    with watching(model) as watch:
        update_limit(model, BATCHES, distinct=True)
    # the rows of one shape share a prompt but for its last token, which goes with each answer
    assert watch.positions == (2 + 2) + (2 + 1) + (1 + 3) + (1 + 1)
    assert watch.padding == 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_limit_s_gradient_is_that_of_the_log_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for distinct in (False, True):
        model, _ = small_model()
        monkeypatch.setattr(model, "zero_grad", lambda **_: None)
        update_limit(model, BATCHES, distinct=distinct)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) < 1e-5
    assert float(gradients[0].norm()) > 0


def test_recording_keeps_what_was_answered() -> None:
    model, _ = small_model()
    recording = Recording(generate)
    found = recording(model, Request([[7, 8]], [(0, 1)], Sampling(max_new_tokens=3), 0, [5]))
    assert recording.batches == [[((7, 8), found[0].token_ids)]]


def test_rollout_counts_what_was_played() -> None:
    found = bench_rollout(compose("train", FEW), 1)
    separate = bench_rollout(compose("train", [*FEW, "rollout.share_prompts=false"]), 1)
    assert set(found) >= PROMISED
    for name in ("decisions", "prompt_tokens", "answer_tokens", "duplicate_prompt_share"):
        assert found[name] == separate[name]
    assert 0 < found["duplicate_prompt_share"] < 1
    assert found["positions"] < separate["positions"]
    assert separate["positions"] >= separate["prompt_tokens"]
    assert 0 < found["model_share"] < 1


def test_update_counts_what_was_trained_on() -> None:
    found = bench_update(compose("train", FEW), 1)
    separate = bench_update(compose("train", [*FEW, "algo.share_prompts=false"]), 1)
    assert set(found) >= PROMISED
    for name in ("rows", "tokens_with_loss", "tokens_without_loss", "duplicate_prompt_share"):
        assert found[name] == separate[name]
    assert found["positions"] < separate["positions"]
    assert separate["positions"] == separate["tokens_with_loss"] + separate["tokens_without_loss"]
    assert 0 <= found["padding_share"] < 0.2


def row(update: int, success: float | None, split: str = "validation") -> dict[str, Any]:
    if success is None:
        return {"kind": "train", "update": update, "perf/seconds_total": 2.0, "steps_played": 10}
    return {"kind": "eval", "update": update, "split": split, "success_rate": success}


def test_learning_counts_until_the_first_evaluation_that_reached_the_target() -> None:
    rows = [row(0, 0.9), row(1, None), row(1, 0.5), row(2, None), row(2, 0.8), row(3, None), row(3, 0.9)]
    assert reached(rows) == {"reached": True, "update": 2, "seconds_to_target": 4.0, "decisions_to_target": 20}
    never = {"reached": False, "update": None, "seconds_to_target": None, "decisions_to_target": None}
    assert reached([*rows[:3], row(1, 0.95, "test")]) == never


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert msgrpo(monkeypatch, "bench", "rollout", *FEW, "--repeats", "1", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)) >= PROMISED
    assert msgrpo(monkeypatch, "bench", "update", *FEW, "--repeats", "1") == 0
    assert "time_over_limit" in capsys.readouterr().out
    assert msgrpo(monkeypatch, "bench", "learn", "experiment=smoke", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said) >= {"seconds_to_target", "decisions_to_target", "target", "base", "reached"}
    assert (said["target"], said["reached"]) == (0.8, False)
    assert msgrpo(monkeypatch, "bench", "rollout", "env.p=3") == 2
    assert capsys.readouterr().err.startswith("error: env.p=3")
    assert list(tmp_path.iterdir()) == []
