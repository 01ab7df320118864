"""Every way of giving credit, choosing episodes and showing history trains the embedded model, with real parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from msgrpo_cli.algo.episode_sampling import EPISODE_SAMPLINGS
from msgrpo_cli.analysis.replay.steps import verdict
from msgrpo_cli.config.compose import compose, config_dir
from msgrpo_cli.models.loading import load_model
from msgrpo_cli.planning.dry_run import derived
from msgrpo_cli.training.train import train_job

VARIANTS = sorted(file.stem for file in (config_dir() / "algo").glob("*.yaml"))
SHORT = [
    "experiment=smoke", "max_updates=2", "algo.groups_per_update=4", "algo.group_size=4", "eval.episodes=4",
    "eval.every=0", "save.every=2", "save.keep_last=1", "trainer.use_cpu=true",
]  # fmt: skip
STEPS_DIFFER = {"gigpo", "step"}  # undiscounted, one reward at the end is as far from every step


def train(folder: Path, *overrides: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of metrics and the played episodes of a short run."""
    train_job(compose("train", [*SHORT, *overrides]), folder, command=["test"], overrides=list(overrides))
    metrics, episodes = (
        [json.loads(line) for line in (folder / name).read_text().splitlines()]
        for name in ("metrics.jsonl", "episodes.jsonl")
    )
    return [row for row in metrics if row["kind"] == "train"], episodes


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_and_moves_the_weights(variant: str, tmp_path: Path) -> None:
    metrics, episodes = train(tmp_path / "run", f"algo={variant}")
    config = compose("train", [*SHORT, f"algo={variant}"])
    assert [row["update"] for row in metrics] == [1, 2]
    assert all(row["grad_norm"] > 0 and row["rows"] > 0 for row in metrics)
    played = [row["episodes_played"] for row in metrics]
    at_least, at_most = 16, 4 * config.algo.groups_at_most
    assert all(at_least <= count <= at_most for count in played)
    assert len(episodes) == sum(played)
    drawn = [episode for episode in episodes if episode["drawn"]]
    assert len(drawn) == sum(row["episodes_drawn"] for row in metrics)
    if not EPISODE_SAMPLINGS[config.algo.episode_sampling].takes_a_share and variant != "dapo":
        assert drawn == episodes
    own = any("advantage" in step for episode in episodes for step in episode["steps"])
    assert own == (config.algo.credit in STEPS_DIFFER)
    base, _ = load_model(config.model)
    trained = load_file(tmp_path / "run" / "checkpoints" / "checkpoint-2" / "model.safetensors")
    before = base.state_dict()
    assert any(not (trained[name] == before[name]).all() for name in trained)


KEPT = ["algo=gigpo", "save.every=1", "trainer.lr_scheduler_type=constant"]


@pytest.mark.slow
def test_a_run_of_per_step_credit_resumes_to_the_same_end(tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole", *KEPT)
    config = compose("train", [*SHORT, *KEPT, "max_updates=1"])
    train_job(config, tmp_path / "parts", command=["test"], overrides=[])
    more = config.model_copy(update={"max_updates": 2})
    train_job(more, tmp_path / "parts", command=["test"], overrides=[], resume=tmp_path / "parts")
    found = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in found if row["kind"] == "train"][-1]
    for name in ("total_reward", "episodes_drawn", "rows", "abs_advantage_pool", "loss"):
        assert last[name] == whole[-1][name]


@pytest.mark.slow
def test_history_lengthens_the_prompts_of_training_and_of_evaluation(tmp_path: Path) -> None:
    once = ["max_updates=1", "save.every=1"]
    plain, _ = train(tmp_path / "plain", *once)
    seen, _ = train(tmp_path / "seen", *once, "prompt.history=2", "rollout.max_prompt_tokens=120")
    per_row = [rows[0]["tokens_prompt"] / rows[0]["rows"] for rows in (plain, seen)]
    assert per_row[1] > 1.8 * per_row[0], "episodes of eight steps hold two earlier states most of the time"
    kept = json.loads((tmp_path / "seen" / "checkpoints" / "checkpoint-1" / "msgrpo.json").read_text())
    assert kept["prompt"]["history"] == 2


def test_a_replay_tells_the_advantage_of_a_step_where_the_steps_of_its_episode_differ() -> None:
    step = {"valid": True, "action": "up", "optimal_action": None, "regret": None}
    assert verdict(step).words == "optimal play is not known here"
    assert verdict({**step, "advantage": -0.25}).words == "optimal play is not known here; advantage -0.250"
    assert verdict({**step, "advantage": "much"}).words == verdict(step).words


@pytest.mark.parametrize(
    ("overrides", "played", "at_most", "drawn"),
    [
        (["algo=dapo"], 256, 1024, 256),
        (["algo=dapo", "algo.most_groups=20"], 256, 320, 256),
        (["algo=starpo_s", "algo.groups_per_update=4", "algo.sample_fraction=0.4"], 64, 64, 32),
        (["algo=grpo"], 256, 256, 256),
    ],
)
def test_a_dry_run_knows_how_much_is_played_and_drawn(
    overrides: list[str], played: int, at_most: int, drawn: int
) -> None:
    found = derived(compose("train", overrides))
    assert found["episodes_played_per_update"] == played
    assert found["episodes_played_per_update_at_most"] == at_most
    assert found["episodes_drawn_per_update_at_most"] == drawn
    assert found["decisions_per_update_at_most"] == 8 * at_most
