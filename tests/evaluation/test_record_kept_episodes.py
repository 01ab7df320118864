"""A long run stays small: whole episode files for the first, best and last evaluation, fifty lines for the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from msgrpo_cli.common.jsonl import append_lines
from msgrpo_cli.evaluation.record import KEPT, cut_former_episodes
from msgrpo_cli.runs.directory import Run

ALL = 60


def evaluated(run: Run, update: int, score: float, split: str = "validation", checkpoint: str | None = None) -> None:
    """What the recorder does after an evaluation."""
    row = {"kind": "eval", "update": update, "split": split, "checkpoint": checkpoint, "mean_total_reward": score}
    file = run.evaluations / f"{split}-{update}.episodes.jsonl"
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    append_lines(file, [{"update": update, "number": number} for number in range(ALL)])
    append_lines(run.metrics, [{"kind": "train", "update": update}, row])
    cut_former_episodes(run, split)


def lengths(run: Run) -> dict[int, int]:
    files = run.evaluations.glob("validation-*.episodes.jsonl")
    return {
        int(file.name.split(".")[0].removeprefix("validation-")): len(file.read_text().splitlines()) for file in files
    }


def test_first_best_and_last_are_whole_the_others_keep_fifty(tmp_path: Path) -> None:
    run = Run(tmp_path)
    evaluated(run, 0, 0.1)
    evaluated(run, 10, 0.5)
    assert lengths(run) == {0: ALL, 10: ALL}
    evaluated(run, 20, 0.3)
    assert lengths(run) == {0: ALL, 10: ALL, 20: ALL}, "first, best, last"
    evaluated(run, 30, 0.5)
    assert lengths(run) == {0: ALL, 10: KEPT, 20: KEPT, 30: ALL}, "of equals the later is the best, as of checkpoints"
    evaluated(run, 40, 0.4)
    evaluated(run, 50, 0.2)
    assert lengths(run) == {0: ALL, 10: KEPT, 20: KEPT, 30: ALL, 40: KEPT, 50: ALL}
    kept = (run.evaluations / "validation-20.episodes.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in kept] == list(range(KEPT)), "the first ones"


def test_a_resumed_run_ends_with_the_same_files(tmp_path: Path) -> None:
    scores = {0: 0.1, 10: 0.5, 20: 0.3, 30: 0.6, 40: 0.6, 50: 0.2}
    whole, broken = Run(tmp_path / "whole"), Run(tmp_path / "broken")
    for run in (whole, broken):
        run.path.mkdir()
        for update, score in scores.items():
            evaluated(run, update, score)
    for checkpoint in (0, 10, 20, 30, 40, 50):
        rows = [json.loads(line) for line in broken.metrics.read_text().splitlines()]
        broken.metrics.unlink()
        append_lines(broken.metrics, [row for row in rows if row["update"] <= checkpoint])
        for update in (update for update in scores if update > checkpoint):
            evaluated(broken, update, scores[update])
        assert lengths(broken) == lengths(whole), f"resumed from {checkpoint}"


def test_final_scores_and_other_parts_are_another_series(tmp_path: Path) -> None:
    run = Run(tmp_path)
    evaluated(run, 0, 0.1)
    evaluated(run, 10, 0.5)
    evaluated(run, 10, 0.9, split="test", checkpoint="checkpoints/checkpoint-10")
    evaluated(run, 20, 0.4)
    assert lengths(run) == {0: ALL, 10: ALL, 20: ALL}


@pytest.mark.slow
def test_a_real_run_keeps_what_its_metrics_say(tmp_path: Path) -> None:
    from msgrpo_cli.config.compose import compose
    from msgrpo_cli.training.train import train_job

    overrides = ["experiment=smoke", "max_updates=5", "eval.every=1", "save.every=5", f"eval.episodes={ALL}"]
    train_job(compose("train", overrides), tmp_path, command=["test"], overrides=overrides)
    run = Run(tmp_path)
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    rewards = {r["update"]: r["mean_total_reward"] for r in rows if r["kind"] == "eval" and r["checkpoint"] is None}
    best = max(update for update, reward in rewards.items() if reward == max(rewards.values()))
    assert lengths(run) == {update: ALL if update in (0, best, 5) else KEPT for update in range(6)}
    for name in ("base", "best"):
        assert len((run.evaluations / f"{name}.episodes.jsonl").read_text().splitlines()) == ALL
