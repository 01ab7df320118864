"""A real pretrained model of 135 million parameters: it plays with worked turns, learns two updates, is killed between
them, goes on, is merged, and answers behind a server as it does here."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from msgrpo_cli import evaluate
from msgrpo_cli.config.saved import load_saved
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.models.factory import at_temperature, language_agent
from msgrpo_cli.models.loading import load_model
from msgrpo_cli.rollout.play import Decision
from support.commands import run as command
from support.kills import start
from support.model_server import served
from support.smollm2 import fetch_or_skip

pytestmark = pytest.mark.slow

OVERRIDES = [
    "model=smollm2-135m-gguf", "env.size=3", "env.max_steps=3", "prompt=action_only", "prompt.observation=compact",
    "prompt.examples=3", "rollout=short", "rollout.max_prompt_tokens=400", "rollout.max_new_tokens=8", "trainer=small",
    "trainer.learning_rate=1e-4", "algo.groups_per_update=2", "algo.group_size=4", "algo.episode_sampling=all",
    "lora.enabled=true", "lora.r=8", "max_updates=2", "eval.every=0", "eval.episodes=4", "save.every=1",
    "trainer.use_cpu=true", "hydra.run.dir=run",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _weights() -> None:
    fetch_or_skip()


def rows(run: Path) -> list[dict[str, float]]:
    file = run / "metrics.jsonl"
    lines = map(json.loads, file.read_text().splitlines()) if file.exists() else []
    return [line for line in lines if line["kind"] == "train"]


def test_it_learns_goes_on_after_a_kill_and_plays_behind_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run, process = tmp_path / "run", start(*OVERRIDES, folder=tmp_path)
    while not (run / "checkpoints" / "checkpoint-1" / "msgrpo.json").exists():
        assert process.poll() is None, (tmp_path / "stderr.txt").read_text()
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert command(monkeypatch, "train", "--resume", str(run)) == 0
    updates = rows(run)
    assert [row["update"] for row in updates] == [1, 2]
    assert all(row["logprob_gap_max"] < 1e-3 for row in updates) and any(row["grad_norm"] > 0 for row in updates)
    base = json.loads((run / "eval" / "base.json").read_text())
    assert base["valid_action_rate"] > 0.2, "with worked turns it answers in the form that is asked for"

    merged = tmp_path / "merged"
    assert command(monkeypatch, "export", str(run / "checkpoints" / "checkpoint-2"), str(merged), "--merge") == 0
    config = load_saved(run / "config.yaml")
    shown = [*OVERRIDES[1:9], "eval.episodes=4", "eval.temperature=0", f"model.path={merged}"]
    with served(merged, tmp_path / "server.txt") as url:
        evaluate(None, "policy=api", "model=smollm2-135m", *shown, f"api.base_url={url}")
    [file] = tmp_path.glob("outputs/api/*/answers.jsonl")
    answers = [json.loads(line) for line in file.read_text().splitlines()]
    whole = config.model.model_copy(update={"path": str(merged)})
    policy = at_temperature(language_agent(config, *load_model(whole, 0)), 0.0)
    game = make_game(config.env)
    for line in answers:
        [said] = policy.act([Decision(game, line["observation"], (0,))])
        assert line["answer"]["text"] == said.text
    assert len(answers) >= 3
