"""The paper's experiments from beginning to end, on the architecture they name, with less depth and random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from msgrpo_cli import evaluate, train
from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.schema_eval import SCENARIOS
from support.model_server import served
from support.small_qwen import qwen_of_one_layer, small_qwen

SHORT = ["rollout.max_new_tokens=4", "rollout.max_prompt_tokens=3000"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("experiment", ["paper_frozenlake", "paper_snake"])
def test_the_settings_are_the_paper_s(experiment: str) -> None:
    config = compose("train", [f"experiment={experiment}"])
    assert config.model.path == "Qwen/Qwen2.5-3B-Instruct"
    assert (config.max_updates, config.algo.groups_per_update, config.algo.group_size) == (700, 2, 16)
    assert (config.rollout.temperature, config.eval.temperature) == (1.25, 0.5)
    assert (config.trainer["learning_rate"], config.trainer["beta"], config.trainer["epsilon"]) == (1e-6, 0.0, 0.2)
    assert (config.algo.credit, config.algo.episode_sampling) == ("episode", "absolute_advantage")
    assert config.env.max_steps == 8


def test_the_baselines_meet_the_same_prompts_and_starts() -> None:
    for size in ("3b", "7b", "14b", "32b", "72b"):
        baseline = compose("eval", ["experiment=paper_baselines", f"model=qwen{size}"])
        trained = compose("train", ["experiment=paper_frozenlake"])
        assert baseline.model.path == f"Qwen/Qwen2.5-{size.upper()}-Instruct"
        assert baseline.prompt == trained.prompt
        assert baseline.algo.invalid_action == trained.algo.invalid_action
        assert baseline.eval.temperature == trained.eval.temperature
        assert baseline.rollout.max_new_tokens == trained.rollout.max_new_tokens
        assert (baseline.eval.scenarios, baseline.eval.split) == (SCENARIOS["paper"], "any")
        assert baseline.eval.episodes == 50


@pytest.mark.slow
def test_the_baselines_here_and_behind_a_server(tmp_path: Path) -> None:
    model = small_qwen(tmp_path / "qwen")
    chosen = ["experiment=paper_baselines", "model=qwen7b", f"model.path={model}", "eval.episodes=2", *SHORT]
    chosen += ["eval.temperature=0"]
    here = evaluate(None, *chosen)
    with served(model, tmp_path / "log.txt") as url:
        asked = evaluate(None, *chosen, "policy=api", f"api.base_url={url}")
    assert [found["env"] for found in asked] == [found["env"] for found in here] == SCENARIOS["paper"]
    for local, remote in zip(here, asked, strict=True):
        same = ("mean_total_reward", "ends", "mean_length", "random_score", "optimal_score", "valid_action_rate")
        assert {key: local[key] for key in same} == {key: remote[key] for key in same}
        assert remote["usage"]["prompt_tokens"] > 1000 * remote["usage"]["requests"]


@pytest.mark.slow
def test_snake_from_training_to_the_four_scenarios(tmp_path: Path) -> None:
    few = ["max_updates=2", "algo.groups_per_update=1", "algo.group_size=4", "algo.invalid_action=random"]
    scored = ["eval.episodes=2", "eval.every=1", "save.every=1"]
    model = small_qwen(tmp_path / "qwen")
    outcome = train("experiment=paper_snake", f"model.path={model}", *few, *scored, *SHORT)
    trained = _training_rows(outcome)
    assert len(trained) == 2 and any(not row["skipped"] for row in trained)
    assert all(row["skipped"] or row["logprob_gap_max"] < 1e-4 for row in trained)
    protocol = ["eval.scenarios=paper", "eval.split=any", "eval.episodes=2", "eval.temperature=0.5"]
    scenarios = evaluate(outcome["run"], *protocol)
    assert [found["env"] for found in scenarios] == SCENARIOS["paper"]
    assert all(found["base_score"] is not None and found["sampling"]["temperature"] == 0.5 for found in scenarios)


@pytest.mark.slow
def test_frozen_lake_in_the_real_width(tmp_path: Path) -> None:
    """One of the 36 layers; a prompt has some 1300 tokens, for every byte is one."""
    model = qwen_of_one_layer(tmp_path / "qwen3b", "qwen3b")
    few = ["max_updates=1", "algo.groups_per_update=1", "algo.group_size=3", "algo.invalid_action=random"]
    game = ["env.size=2", "env.p=1.0", "env.max_steps=2", "eval.split=any", "eval.episodes=1", "eval.every=0"]
    outcome = train("experiment=paper_frozenlake", f"model.path={model}", *few, *game, *SHORT)
    (row,) = _training_rows(outcome)
    assert not row["skipped"] and row["logprob_gap_max"] < 1e-3
    config = json.loads((Path(outcome["run"]) / "checkpoints" / "checkpoint-1" / "config.json").read_text())
    assert (config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"]) == (2048, 16, 1)


def _training_rows(outcome: dict[str, Any]) -> list[dict[str, Any]]:
    lines = (Path(outcome["run"]) / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == "train"]
