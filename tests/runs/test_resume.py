"""Going on: where a run stands on disk, what is cut, and that an interruption leaves no trace in the numbers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from msgrpo_cli.common.files import read_json, write_json
from msgrpo_cli.common.jsonl import append_lines
from msgrpo_cli.common.lock import locked
from msgrpo_cli.common.signals import end_at_next_safe_point
from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import TERMINATED, Interrupted, RunError, UsageError
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.runs import checkpoint
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.resume import (
    ResumePoint,
    base_is_scored,
    bytes_that_stay,
    changed,
    differences,
    go_back,
    remove_leftovers,
    resume_point,
    scored_with,
    stays,
    stored_base,
)
from msgrpo_cli.training import session
from msgrpo_cli.training.train import train_job
from support.small_run import SMALL

OVERRIDES = [*SMALL, "trainer.beta=0.05", "algo.optimizer_steps=2", "eval.every=2", "save.every=2", "max_updates=4"]
OVERRIDES += ["eval.episodes=12"]


def rows(path: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith("perf/")} for row in found]


def assert_same(run: Path, straight: Path) -> None:
    assert rows(run / "metrics.jsonl") == rows(straight / "metrics.jsonl")
    assert (run / "episodes.jsonl").read_bytes() == (straight / "episodes.jsonl").read_bytes()
    chosen = [json.loads((path / "eval" / "best.json").read_text())["checkpoint"] for path in (run, straight)]
    assert chosen[0] == chosen[1]


def train(run: Path, **more: Any) -> dict[str, Any]:
    return train_job(compose("train", OVERRIDES), run, command=["test"], overrides=OVERRIDES, **more)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("straight") / "run"
    train(run)
    return run


def end_after(monkeypatch: pytest.MonkeyPatch, run: Path, updates: int) -> None:
    """Ask for the end, as a signal would, ten moves after so many updates were recorded."""
    moves, play = [0], FrozenLake.play

    def counting(self: FrozenLake, action: str) -> tuple[float, str | None]:
        recorded = (run / "metrics.jsonl").read_text().count('"train"') if (run / "metrics.jsonl").exists() else 0
        moves[0] += recorded == updates
        if moves[0] == 10:
            end_at_next_safe_point(Interrupted("asked", TERMINATED))
        return play(self, action)

    monkeypatch.setattr(FrozenLake, "play", counting)


@pytest.mark.slow
def test_wherever_a_run_is_asked_to_end_it_goes_on_as_if_nothing_had_happened(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    for number, (updates, place) in enumerate(
        [(0, "base"), (0, "base"), (1, "rollout"), (2, "evaluation"), (3, "rollout"), (4, "evaluation"), (4, "pending")]
    ):
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            end_after(patch, run, updates)
            train(run, resume=run if number else None)
        assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
        assert checkpoint.has(Run(run), updates) or not updates, f"{place}: update {updates} was not saved"
    train(run, resume=run)
    assert {path.name for path in checkpoint.checkpoints(Run(run))} == {"checkpoint-2", "checkpoint-4"}
    assert_same(run, straight)


def test_a_checkpoint_that_a_signal_took_early_counts_as_the_regular_one_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An uninterrupted run saves update 2 because it is the best so far, and ends there because that is enough."""
    overrides = [*SMALL, "eval.every=2", "save.every=100", "max_updates=4", "stop.score=0.0", "eval.episodes=12"]
    config = compose("train", overrides)
    straight, run = tmp_path / "straight", tmp_path / "run"
    train_job(config, straight, command=["test"], overrides=[])
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        end_after(patch, run, 2)
        train_job(config, run, command=["test"], overrides=[])
    assert checkpoint.read_metadata(run / "checkpoints" / "checkpoint-2")["interim"] is True
    outcome = train_job(config, run, command=["test"], overrides=[], resume=run)
    assert outcome["best_checkpoint"] == "checkpoints/checkpoint-2" and outcome["updates"] == 2
    assert checkpoint.read_metadata(run / "checkpoints" / "checkpoint-2")["interim"] is False
    assert_same(run, straight)


def test_an_evaluation_that_was_cut_off_is_made_up_for(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    for update in (4,):
        shutil.rmtree(run / "checkpoints" / f"checkpoint-{update}")
    path = run / "checkpoints" / "checkpoint-2"
    metadata = checkpoint.read_metadata(path)
    write_json(path / "msgrpo.json", {**metadata, "score": None})
    said = resume_point(compose("train", OVERRIDES), Run(run), print)
    assert (said.update, said.evaluation_is_pending) == (2, True)
    assert not resume_point(compose("train", OVERRIDES), Run(straight), print).evaluation_is_pending
    train(run, resume=run)
    assert checkpoint.score_of(path) == metadata["score"]["mean_total_reward"]
    assert_same(run, straight)


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(
    straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    weights = run / "checkpoints" / "checkpoint-4" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1  # one bit; the file still loads
    weights.write_bytes(content)
    train(run, resume=run)
    said = " ".join(capsys.readouterr().err.split())
    assert "checkpoint-4/model.safetensors: damaged: its content is not what was written" in said
    assert "the one before is used" in said and "going on after update 2" in said
    assert_same(run, straight)


def test_with_damaged_checkpoints_only_a_run_does_not_start_over(straight: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    for path in checkpoint.checkpoints(Run(run)):
        (path / "optimizer.pt").write_bytes(b"cut")
    before = {name: (run / name).read_bytes() for name in ("metrics.jsonl", "run.json", "config.yaml")}
    with pytest.raises(RunError, match="none of its 2 checkpoints is whole"):
        train(run, resume=run)
    assert {name: (run / name).read_bytes() for name in before} == before


def test_a_finished_run_without_its_checkpoints_does_not_start_over(straight: Path, tmp_path: Path) -> None:
    run = Run(shutil.copytree(straight, tmp_path / "run"))
    config = compose("train", OVERRIDES)
    shutil.rmtree(run.checkpoints)
    with pytest.raises(UsageError, match=r"run/checkpoints: no checkpoint, and the run is done, .*put its checkpoints"):
        resume_point(config, run, lambda reason: None)
    run.update_record(status="interrupted")  # before its first checkpoint
    assert resume_point(config, run, lambda reason: None).update == 0


def test_a_run_in_use_is_refused_and_stays_as_it_is(straight: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    before = (run / "run.json").read_bytes()
    with locked(run), pytest.raises(UsageError, match="in use by process"):
        train(run, resume=run)
    assert (run / "run.json").read_bytes() == before


def test_what_was_written_after_the_point_is_cut(straight: Path, tmp_path: Path) -> None:
    run, config = Run(tmp_path), compose("train", OVERRIDES)
    run.update_record(summary={"last": {}, "best": {}}, base_scored_with=scored_with(config))
    shutil.copytree(straight / "eval", run.evaluations)
    lines = [
        {"kind": "eval", "update": 0, "checkpoint": None},
        {"kind": "train", "update": 1},
        {"kind": "train", "update": 2},
        {"kind": "eval", "update": 2, "checkpoint": "checkpoints/checkpoint-2"},
        {"kind": "train", "update": 3},
    ]
    append_lines(run.metrics, lines)
    (run.checkpoints / ".checkpoint-1.old").mkdir(parents=True)
    (run.path / ".reference.partial").mkdir()
    point = resume_point(config, run, print)
    assert (point.checkpoint, point.update, point.base_is_scored) == (None, 0, True)
    go_back(run, bytes_that_stay(point, run))
    assert rows(run.metrics) == lines[:1] and run.record()["summary"] == {"last": {}}
    assert not list(run.checkpoints.iterdir()) and not (run.path / ".reference.partial").exists()


AFTER_2 = ResumePoint(Path("checkpoint-2"), 2, base_is_scored=True, evaluation_is_pending=False)
TRAINED, SCORED = {"kind": "train", "update": 2}, {"kind": "eval", "update": 2, "checkpoint": None}


@pytest.mark.parametrize(
    ("point", "row", "expected"),
    [
        (AFTER_2, TRAINED, True),
        (AFTER_2, SCORED, True),
        (AFTER_2, {**SCORED, "checkpoint": "checkpoints/checkpoint-2"}, False),  # the final score
        (AFTER_2, {**TRAINED, "update": 3}, False),
        (replace(AFTER_2, evaluation_is_pending=True), TRAINED, True),
        (replace(AFTER_2, evaluation_is_pending=True), SCORED, False),  # it is made up for
        (replace(AFTER_2, evaluation_is_pending=True), {**SCORED, "update": 1}, True),
        (replace(AFTER_2, base_is_scored=False), {**SCORED, "update": 0}, True),
        (ResumePoint(None, 0, True, False), {**SCORED, "update": 0}, True),
        (ResumePoint(None, 0, False, False), {**SCORED, "update": 0}, False),  # written again with the base
    ],
)
def test_which_rows_stay(point: ResumePoint, row: dict[str, Any], expected: bool) -> None:
    assert stays(point, row) is expected


def test_what_a_dead_process_was_writing_or_removing_goes_and_nothing_else(tmp_path: Path) -> None:
    run = Run(tmp_path)
    stay = {"run.json", "eval/base.json", "checkpoints/checkpoint-3/model.safetensors", "reference/model.safetensors"}
    go = {
        ".run.json.5-5.tmp",
        "eval/.base.json.5-5.tmp",
        "checkpoints/.checkpoint-1.old/model.safetensors",
        "checkpoints/.partial/optimizer.pt",
        "checkpoints/checkpoint-3/.msgrpo.json.5-5.tmp",
        ".reference.partial/model.safetensors",
    }
    for name in stay | go:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_leftovers(run)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == stay


def test_a_final_score_is_cut_where_the_run_goes_on(straight: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    config = changed(compose("train", OVERRIDES), ["max_updates=5"])
    train_job(config, run, command=["test"], overrides=[], resume=run)
    kinds = [(row["kind"], row["update"], row.get("checkpoint") is not None) for row in rows(run / "metrics.jsonl")]
    assert [kind for kind in kinds if kind[2]] == [kinds[-1]], "one final score, at the end"
    assert [kind for kind in kinds if kind[0] == "train"] == [("train", update, False) for update in range(1, 6)]


@pytest.mark.parametrize("name", ["metrics.jsonl", "episodes.jsonl"])
@pytest.mark.parametrize("damage", ["line", "missing", "number", "cut"])
def test_rows_before_the_checkpoint_are_never_cut(straight: Path, tmp_path: Path, name: str, damage: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    shutil.rmtree(run / "checkpoints" / "checkpoint-4")
    lines = (run / name).read_text().splitlines(keepends=True)
    broken = {"line": '{"kind": "tr\n', "number": "5\n"}.get(damage)
    (run / name).write_text("".join([lines[0], broken, *lines[2:]]) if broken else lines[0])
    if damage == "cut":  # in the midst of a row, as a disk may leave it
        (run / name).write_text("".join(lines)[: len(lines[0]) + 20])
    before = {file: (run / file).read_bytes() for file in ("metrics.jsonl", "episodes.jsonl", "run.json")}
    said = "line 2 is damaged" if broken else r"rows of update \d are missing"
    with pytest.raises(UsageError, match=rf"{name}: {said}; put back a copy of the file"):
        train(run, resume=run)
    assert {file: (run / file).read_bytes() for file in before} == before


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_reference_is_made_anew(
    straight: Path, tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    shutil.rmtree(run / "checkpoints" / "checkpoint-4")
    file = run / "reference" / "model.safetensors"
    weights = bytearray(file.read_bytes())
    weights[len(weights) // 2] ^= 255
    file.write_bytes(weights if damage == "flipped" else weights[:100])
    if damage == "gone":
        shutil.rmtree(run / "reference")
    train(run, resume=run)
    assert_same(run, straight)
    assert (f"{file}: damaged" in capfd.readouterr().err.replace("\n", "")) == (damage != "gone")
    assert file.read_bytes() == (straight / "reference" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("damage", ["gone", "shorter", "empty"])
def test_a_base_that_is_lost_is_scored_again_and_nothing_else_is(straight: Path, tmp_path: Path, damage: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    shutil.rmtree(run / "checkpoints" / "checkpoint-4")
    episodes = run / "eval" / "base.episodes.jsonl"
    if damage == "gone":
        (run / "eval" / "base.json").unlink()
    elif damage == "empty":
        (run / "eval" / "base.json").write_text("")
    else:
        episodes.write_text("".join(episodes.read_text().splitlines(keepends=True)[:7]))
    train(run, resume=run)
    assert_same(run, straight)


def test_a_base_counts_where_its_files_the_record_and_the_config_agree(straight: Path, tmp_path: Path) -> None:
    config, run = compose("train", OVERRIDES), Run(tmp_path / "run")
    shutil.copytree(straight, run.path)
    assert base_is_scored(config, run)
    for other in ("eval.episodes=8", "eval.seed=5", "eval.split=any", "eval.temperature=0.5"):
        assert not base_is_scored(changed(config, [other]), run), other
    file, said = run.evaluations / "base.episodes.jsonl", run.evaluations / "base.json"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:7]))
    assert stored_base(run) is None
    write_json(said, {**read_json(said), "episodes": 7})
    assert stored_base(run) and not base_is_scored(config, run), "scored anew, by a process that died before it said so"


def test_a_base_on_other_starts_is_not_taken_for_the_old_one_where_its_process_died(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after its episodes were written and before run.json says what they were scored with."""
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    config = changed(compose("train", OVERRIDES), ["max_updates=5", "eval.seed=9"])
    written = session.record_evaluation

    def dies(*given: Any) -> None:
        written(*given)
        raise Interrupted("as if killed", TERMINATED)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(session, "record_evaluation", dies)
        train_job(config, run, command=["test"], overrides=[], resume=run)
    assert not base_is_scored(compose("train", OVERRIDES), Run(run))
    assert not base_is_scored(config, Run(run))


def test_a_final_evaluation_on_other_starts_gets_a_base_on_them(straight: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    config = changed(compose("train", OVERRIDES), ["max_updates=5", "eval.episodes=8", "eval.split=any"])
    train_job(config, run, command=["test"], overrides=[], resume=run)
    base, best = (json.loads((run / "eval" / f"{name}.json").read_text()) for name in ("base", "best"))
    assert (base["episodes"], base["split"], base["seeds"]) == (best["episodes"], best["split"], best["seeds"])
    assert best["base_score"] == base["mean_total_reward"]


def test_differences_are_told() -> None:
    before = {"threads": 2, "device": "cpu", "commit": "a", "versions": {"trl": "1.16.0", "new": None}}
    now = {"threads": 1, "device": "cpu", "commit": "a", "versions": {"trl": "1.16.1", "new": "1"}}
    assert differences(before, now) == [
        "threads: 1, was 2 before; the resumed run may differ from an uninterrupted one",
        "version of trl: 1.16.1, was 1.16.0 before; the resumed run may differ from an uninterrupted one",
    ]
    assert differences({}, now) == []
