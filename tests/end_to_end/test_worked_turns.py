"""Worked turns and an answer's prefix, from the command to checkpoint, resumed run, evaluation, plan and card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.prompt import prompt_of
from msgrpo_cli.config.saved import load_saved
from msgrpo_cli.evaluation.evaluate import evaluate_subjects
from msgrpo_cli.evaluation.targets import asked_for
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.models.factory import load_policy
from msgrpo_cli.planning.preview import as_text, shown
from msgrpo_cli.rollout.play import Decision
from msgrpo_cli.training.train import train_job

OVERRIDES = [
    "prompt.examples=3", "prompt.examples_by=optimal", "prompt.answer_prefix='<action>'", "algo.groups_per_update=4",
    "max_updates=2", "eval.every=0", "eval.episodes=4", "save.every=1", "rollout.max_prompt_tokens=150",
    "trainer.use_cpu=true", "seed=3",
]  # fmt: skip


def episodes(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]


def test_a_run_shows_the_same_turns_from_its_first_prompt_to_its_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run = compose("train", OVERRIDES), tmp_path / "run"
    first: dict[str, Any] = {"command": ["test"], "overrides": []}
    train_job(config.model_copy(update={"max_updates": 1}), run, **first)
    saved = load_saved(run / "config.yaml")
    assert saved.prompt.example_turns and len(saved.prompt.example_turns) == 3
    train_job(saved.model_copy(update={"max_updates": 2}), run, **first, resume=run)
    assert load_saved(run / "config.yaml").prompt == saved.prompt
    [(subject, evaluated)] = asked_for(str(run), ["eval.episodes=4"])
    assert prompt_of(evaluated).examples == prompt_of(saved).examples and subject.checkpoint is not None
    metadata = json.loads((subject.checkpoint / "msgrpo.json").read_text())
    assert metadata["prompt"] == json.loads(saved.prompt.model_dump_json())

    steps = [step for episode in episodes(run) for step in episode["steps"]]
    assert {episode["update"] for episode in episodes(run)} >= {1, 2}
    assert all(step["completion"].startswith("<action>") for step in steps)
    policy, game = load_policy(saved, subject.checkpoint), make_game(saved.env)
    prefix = tuple(policy.conversation.tokenizer.encode("<action>", add_special_tokens=False))
    said = []
    for seed in range(20):
        game.reset(seed=seed)
        said += policy.act([Decision(game, game.describe("compact"), (seed,))])
    assert len({one.prompt_ids[:20] for one in said}) == 1, "all begin with the turns"
    assert all(one.prompt_ids[-len(prefix) :] == prefix and one.token_ids[: len(prefix)] != prefix for one in said)

    card = (subject.checkpoint / "README.md").read_text()
    for turn in saved.prompt.example_turns:
        assert f"{turn.state}\n<action>{turn.action}</action>" in card
    assert "Every answer was begun for it with `<action>`." in card

    capsys.readouterr()
    evaluate_subjects(asked_for(str(run), ["eval.episodes=4"]), as_json=True)
    assert json.loads(capsys.readouterr().out)
    text = as_text(shown(saved))
    assert text.count("--- assistant\n<action>") == 3 and "of whose answer this is the beginning\n<action>" in text
