"""Checkpoints on small fake files: whole or absent, the last, the best, and which are removed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from msgrpo_cli.common.files import write_json
from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.runs.checkpoint import (
    best,
    checkpoints,
    damage,
    find_checkpoint,
    is_checkpoint,
    last_whole,
    metadata_of,
    publish,
    read_metadata,
    rotate,
    score_of,
    update_of,
)
from msgrpo_cli.runs.directory import Run

FILES = ("model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json")


@pytest.fixture(name="run")
def _run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "outputs" / "2025-08-01" / "120000-lake-tiny-ab12")
    run.update_record(status="running", start="2025-08-01T12:00:00+00:00")
    run.checkpoints.mkdir()
    return run


def partial(run: Run, content: str = "weights") -> Path:
    folder = run.checkpoints / ".partial"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(content)
    return folder


def add(run: Run, update: int, score: float | None = None, content: str = "weights", interim: bool = False) -> Path:
    scored = None if score is None else {"mean_total_reward": score, "success_rate": None}
    metadata = {"schema": 1, "update": update, "score": scored, "interim": interim}
    return publish(partial(run, content), run, update, metadata, f"# Card of {update}")


def names(run: Run) -> list[str]:
    return sorted(path.name for path in run.checkpoints.iterdir())


def test_publishing_completes_and_renames(run: Run) -> None:
    path = add(run, 20, 0.5)
    assert path == run.checkpoints / "checkpoint-20"
    assert sorted(file.name for file in path.iterdir()) == sorted([*FILES, "msgrpo.json", "README.md"])
    assert (path / "README.md").read_text() == "# Card of 20"
    assert read_metadata(path)["update"] == 20
    assert names(run) == ["checkpoint-20"]
    assert is_checkpoint(path)
    assert damage(path, read="all") is None
    assert update_of(path) == 20


def test_publishing_again_replaces(run: Run) -> None:
    add(run, 20, 0.5, "first")
    path = add(run, 20, 0.7, "second")
    assert (path / "model.safetensors").read_text() == "second"
    assert score_of(path) == 0.7
    assert names(run) == ["checkpoint-20"]


def test_what_is_not_published_is_no_checkpoint(run: Run) -> None:
    folder = partial(run)
    (folder / "msgrpo.json").write_text("{}")
    (run.checkpoints / "checkpoint-nine").mkdir()
    assert checkpoints(run) == []
    assert best(run) is None
    assert last_whole(run) is None
    (run.checkpoints / "checkpoint-9").mkdir()
    assert checkpoints(run) == []
    with pytest.raises(RunError, match="none of its 1 checkpoints is whole"):
        last_whole(run)


def test_checkpoints_are_ordered_by_update_and_not_by_name(run: Run) -> None:
    for update in (100, 20, 3):
        add(run, update)
    assert [update_of(path) for path in checkpoints(run)] == [3, 20, 100]


@pytest.mark.parametrize("missing", [*FILES, "msgrpo.json"])
def test_the_last_whole_checkpoint_is_resumed_from(run: Run, missing: str) -> None:
    add(run, 3)
    add(run, 20)
    torn = add(run, 100)
    assert last_whole(run) == torn
    (torn / missing).unlink()
    told: list[str] = []
    assert last_whole(run, told.append) == run.checkpoints / "checkpoint-20"
    assert len(told) == 1 and str(torn / missing) in told[0]


def test_no_whole_checkpoint_among_some_is_an_error(run: Run) -> None:
    for update in (3, 20):
        (add(run, update) / "optimizer.pt").unlink()
    with pytest.raises(RunError, match="none of its 2 checkpoints is whole"):
        last_whole(run)


def test_best_by_score_the_later_of_equals(run: Run) -> None:
    for update, score in [(3, 0.5), (20, 0.9), (100, 0.9), (110, -1.0), (120, None)]:
        add(run, update, score)
    found = best(run)
    assert found is not None
    assert update_of(found) == 100
    assert score_of(found) == 0.9
    assert score_of(run.checkpoints / "checkpoint-120") is None


def test_without_scores_the_last_is_the_best(run: Run) -> None:
    add(run, 20)
    add(run, 3)
    assert best(run) == run.checkpoints / "checkpoint-20"


@pytest.mark.parametrize(
    ("keep_last", "keep_best", "left"),
    [(2, True, [10, 40, 50]), (2, False, [40, 50]), (1, True, [10, 50]), (9, False, [10, 20, 30, 40, 50])],
)
def test_rotation(run: Run, keep_last: int, keep_best: bool, left: list[int]) -> None:
    for update, score in [(10, 0.9), (20, 0.1), (30, None), (40, 0.2), (50, 0.3)]:
        add(run, update, score)
    partial(run)
    rotate(run, keep_last, keep_best)
    assert names(run) == [".partial", *(f"checkpoint-{update}" for update in left)]


def test_rotation_of_nothing(run: Run) -> None:
    rotate(run, 3, keep_best=True)
    assert names(run) == []


def test_a_newer_schema_is_refused(run: Run) -> None:
    path = add(run, 20)
    (path / "msgrpo.json").write_text('{"schema": 2}')
    with pytest.raises(UsageError, match=r"written by a newer msgrpo \(schema 2, this one reads 1\)"):
        read_metadata(path)


@pytest.mark.parametrize("content", ["", "{", "\x00"])
def test_broken_metadata_are_refused(run: Run, content: str) -> None:
    path = add(run, 20)
    (path / "msgrpo.json").write_text(content)
    with pytest.raises(UsageError, match=r"msgrpo\.json: not readable as JSON"):
        read_metadata(path)


def test_a_checkpoint_is_found_by_itself_and_by_its_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = add(run, 20, 0.9), add(run, 30, 0.5)
    assert find_checkpoint(str(second)) == (second, run.path)
    assert find_checkpoint(str(run.path)) == (first, run.path), "a run stands for its best checkpoint"
    monkeypatch.chdir(run.path.parents[2])
    relative = Path("outputs/2025-08-01/120000-lake-tiny-ab12")
    for text in ("last", "1200"):
        assert find_checkpoint(text) == (relative / "checkpoints/checkpoint-20", relative)


def test_a_copied_checkpoint_has_no_run(run: Run, tmp_path: Path) -> None:
    copy = add(run, 20).rename(tmp_path / "mine")
    assert find_checkpoint(str(copy)) == (copy, None)


def test_what_holds_no_checkpoint_is_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="has no checkpoint yet"):
        find_checkpoint(str(run.path))
    with pytest.raises(UsageError, match=re.escape("neither a run (no run.json) nor a checkpoint (no msgrpo.json)")):
        find_checkpoint(str(tmp_path))
    with pytest.raises(UsageError, match="nowhere: no such run"):
        find_checkpoint("nowhere")


def test_metadata_hold_what_an_evaluation_needs(run: Run) -> None:
    config = compose("train", ["env=frozenlake_slippery", "algo.invalid_action=end"])
    metadata: dict[str, Any] = metadata_of(config, run, 20, {"mean_total_reward": 0.5})
    again = json.loads(json.dumps(metadata, allow_nan=False))
    assert again == metadata
    assert (again["schema"], again["update"], again["run"]) == (1, 20, "120000-lake-tiny-ab12")
    assert again["env"] == {
        "name": "frozenlake_slippery",
        "id": "msgrpo/FrozenLake-v0",
        "max_steps": 15,
        "size": 4,
        "p": 0.9,
        "slippery": True,
    }
    assert again["invalid_action"] == "end"
    assert again["score"] == {"mean_total_reward": 0.5}
    assert again["prompt"]["user"] == "{{ observation }}"
    assert again["rollout"]["temperature"] == config.rollout.temperature
    assert again["model"]["path"] == config.model.path


def test_a_copy_beside_a_checkpoint_is_no_checkpoint_and_broken_metadata_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for name, text in (("checkpoint-3", "3"), ("checkpoint-3-copy", "{}")):
        (run.checkpoints / name).mkdir(parents=True)
        (run.checkpoints / name / "msgrpo.json").write_text(text)
    assert checkpoints(run) == []
    with pytest.raises(UsageError, match=r"msgrpo\.json: broken"):
        read_metadata(run.checkpoints / "checkpoint-3")


@pytest.mark.parametrize("missing", ["trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_what_was_saved_without_the_state_of_training_is_whole_but_not_resumed_from(run: Run, missing: str) -> None:
    before, folder = add(run, 3), partial(run)
    (folder / missing).unlink()
    path = publish(folder, run, 20, {"schema": 1, "update": 20, "score": None}, "")
    told: list[str] = []
    assert last_whole(run, told.append) == before
    assert told == [f"{path / missing}: missing, so no run can go on from it"]
    assert best(run) == path, "its weights can be evaluated"


def test_what_was_cut_off_is_neither_chosen_nor_evaluated(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    whole, cut = add(run, 3, 0.1), add(run, 20, 0.9)
    (cut / "model.safetensors").write_text("wei")
    said = re.escape("model.safetensors: damaged: 3 bytes, 7 were written")
    assert best(run) == whole
    assert find_checkpoint(str(run.path)) == (whole, run.path)
    assert re.search(f"warning: .*{said}; {whole.name} is the best that is whole", capsys.readouterr().err)
    with pytest.raises(UsageError, match=said):
        find_checkpoint(str(cut))


def test_content_that_changed_in_full_length_is_neither_resumed_from_nor_chosen(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, changed = add(run, 3, 0.1), add(run, 20, 0.9)
    (changed / "model.safetensors").write_text("weighty")
    assert last_whole(run) == whole
    said = re.escape("model.safetensors: damaged: its content is not what was written")
    assert find_checkpoint(str(run.path)) == (whole, run.path)
    assert re.search(f"warning: .*{said}; {whole.name} is the best that is whole", capsys.readouterr().err)
    with pytest.raises(UsageError, match=said):
        find_checkpoint(str(changed))
    (whole / "model.safetensors").write_text("weighty")
    with pytest.raises(UsageError, match=said):
        find_checkpoint(str(run.path))


def test_what_only_training_reads_spoils_no_evaluation(run: Run) -> None:
    path = add(run, 3)
    (path / "optimizer.pt").write_text("x" * len((path / "optimizer.pt").read_text()))
    assert damage(path, read="model") is None
    assert damage(path, read="all") is not None
    assert find_checkpoint(str(run.path)) == (path, run.path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("files", ["model.safetensors"], "it lists no files"),
        ("files", {"model.safetensors": 7}, "it does not say what model.safetensors was"),
        ("files", {"model.safetensors": {"bytes": 7}}, "it does not say what model.safetensors was"),
        ("score", 0.9, "its score is no evaluation"),
        ("score", {"mean_total_reward": "high"}, "its score is no evaluation"),
    ],
)
def test_metadata_of_another_form_are_damage_and_no_crash(run: Run, key: str, value: Any, said: str) -> None:
    path = add(run, 20, 0.5)
    write_json(path / "msgrpo.json", {**read_metadata(path), key: value})
    assert damage(path) == f"{path / 'msgrpo.json'}: broken: {said}"


def test_a_checkpoint_of_an_interruption_is_chosen_only_where_there_is_no_other(run: Run) -> None:
    alone = add(run, 15, 0.9, interim=True)
    assert best(run) == alone
    regular = add(run, 20, 0.5)
    assert best(run) == regular


def test_a_checkpoint_of_an_interruption_stays_until_a_regular_one_follows_and_costs_none_its_place(run: Run) -> None:
    for update in (10, 20):
        add(run, update)
    add(run, 25, interim=True)
    rotate(run, 2, keep_best=False)
    assert names(run) == ["checkpoint-10", "checkpoint-20", "checkpoint-25"]
    add(run, 30)
    rotate(run, 2, keep_best=False)
    assert names(run) == ["checkpoint-20", "checkpoint-30"]
