"""The list of runs: what it holds, filtered and sorted, and that no broken directory ends it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from msgrpo_cli.analysis.listing import list_runs
from msgrpo_cli.cli.app import main
from msgrpo_cli.errors import UsageError
from support.bad_runs import CHANGES
from support.counted import counting_bytes, counting_calls
from support.run_copies import copy_of

LOW = {"summary": {"best": {"mean_total_reward": 0.1, "split": "test"}}, "start": "2026-01-01T00:00:00+00:00"}
HIGH = {"summary": {"last": {"mean_total_reward": 0.9, "split": "validation"}}, "start": "2026-01-03T00:00:00+00:00"}


@pytest.fixture
def root(finished_run: Path, tmp_path: Path) -> Path:
    day = tmp_path / "outputs" / "2026-01-01"
    copy_of(finished_run, day / "low", record=LOW)
    record = HIGH | {"status": "interrupted"}
    copy_of(finished_run, day / "high", config={"seed": 7, "algo.sample_fraction": 0.25}, record=record)
    started = {"start": "2026-01-02T00:00:00+00:00", "summary": {}, "status": "running", "pid": os.getpid()}
    copy_of(finished_run, tmp_path / "multirun" / "d" / "s" / "young", record=started)
    return tmp_path


def names(root: Path, *filters: str, sort: str | None = None, reverse: bool = False) -> list[str]:
    return [line.name for line in list_runs(root, filters, sort, reverse)]


def test_the_youngest_first(root: Path) -> None:
    lines = list_runs(root, [], None, False)
    assert [line.name for line in lines] == ["high", "young", "low"]
    high = lines[0]
    assert (high.status, high.env, high.model, high.seed) == ("interrupted", "frozenlake", "tiny", 7)
    assert (high.updates, high.max_updates, high.score, high.score_split) == (3, 3, 0.9, "validation")
    assert (lines[1].status, lines[1].process_is_gone, lines[1].score) == ("running", False, None)
    assert names(root, reverse=True) == ["low", "young", "high"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["status=done"], ["low"]),
        (["seed=7"], ["high"]),
        (["env=frozenlake", "model=tiny"], ["high", "young", "low"]),
        (["algo.sample_fraction=0.25"], ["high"]),
        (["algo.sample_fraction=2.5e-1"], ["high"]),  # as YAML reads it
        (["lora.enabled=false", "status=running"], ["young"]),
        (["summary.best.split=test"], ["low"]),
        (["env=snake", "colour=green"], []),
    ],
)
def test_filter(root: Path, filters: list[str], expected: list[str]) -> None:
    assert names(root, *filters) == expected


def test_sort(root: Path) -> None:
    assert names(root, sort="score") == ["low", "high", "young"]  # what has none comes last
    assert names(root, sort="score", reverse=True) == ["high", "low", "young"]
    assert names(root, sort="algo.sample_fraction")[0] == "high"
    assert names(root, sort="name") == ["high", "low", "young"]


@pytest.mark.parametrize(
    ("filters", "sort", "expected"),
    [(["sed=1"], None, "did you mean 'seed'"), (["seed"], None, "not KEY=VALUE"), ([], "scor", "'score'")],
)
def test_mistakes(root: Path, filters: list[str], sort: str | None, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        list_runs(root, filters, sort, False)


def test_broken_runs_are_listed(finished_run: Path, tmp_path: Path) -> None:
    for name, change in CHANGES.items():
        run = copy_of(finished_run, tmp_path / "outputs" / "day" / name)
        (run / "checkpoints" / "checkpoint-3").mkdir(parents=True)
        (run / "checkpoints" / "checkpoint-3" / "msgrpo.json").write_text("{}")
        change(run)
    for name, text in {
        "seedless": '{"status": 3}',
        "odd": '{"status": "done", "start": 5, "summary": {"best": [1]}}',
    }.items():
        copy_of(finished_run, tmp_path / "outputs" / "day" / name)
        (tmp_path / "outputs" / "day" / name / "run.json").write_text(text)
    (tmp_path / "outputs" / "day" / "odd" / "metrics.jsonl").write_bytes(b"\xff\x00{")
    found = {line.name: line for line in list_runs(tmp_path, [], "name", False)}
    assert set(found) == {file.parent.name for file in tmp_path.rglob("run.json")} >= {"whole", "no-config", "odd"}
    for name in ("no-record", "listed-record", "newer-record", "no-yaml", "no-config", "seedless"):
        assert found[name].status == "broken", name
        assert found[name].problem, name
        assert "\n" not in str(found[name].problem)
    assert (found["whole"].status, found["odd"].updates, found["odd"].score) == ("done", 0, None)


def test_hundreds_are_listed_from_two_small_files_and_a_tail_of_each(finished_run: Path, tmp_path: Path) -> None:
    """The number of runs is what counts: of each, few bytes are read, and few lines of Python run."""
    first = copy_of(finished_run, tmp_path / "outputs" / "day" / "r")
    rows = (first / "metrics.jsonl").read_bytes()
    (first / "metrics.jsonl").write_bytes(rows * (1 + 2**22 // len(rows)))  # 4 MB
    small = sum((first / name).stat().st_size for name in ("run.json", "config.yaml"))
    for number in range(300):
        folder = first.with_name(f"r{number}")
        folder.mkdir()
        for name in ("run.json", "config.yaml", "metrics.jsonl"):
            os.link(first / name, folder / name)
    with counting_bytes() as read:
        assert len(list_runs(tmp_path, ["model=tiny"], "score", False)) == 301
    assert all(count < 301 * (2 * small + 2**17) for count in read)
    for number in range(280):
        shutil.rmtree(first.with_name(f"r{number}"))
    with counting_calls() as calls:
        assert len(list_runs(tmp_path, ["model=tiny"], "score", False)) == 21
    assert calls.total() < 21 * 5000, "a parser of YAML in Python takes 20 000 for each"


def run_main(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["msgrpo", *words])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_commands(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    code, out, _ = run_main(capsys, monkeypatch, "runs", "list")
    assert code == 0
    assert all(word in out for word in ("interrupted", "frozenlake", "high", "0.900", "3/3"))
    code, out, _ = run_main(capsys, monkeypatch, "runs", "list", "--filter", "seed=7", "--json")
    assert [line["name"] for line in json.loads(out)] == ["high"]
    code, out, err = run_main(capsys, monkeypatch, "runs", "list", "--filter", "sed=7")
    assert (code, out) == (2, "")
    assert "did you mean 'seed'" in err
    monkeypatch.chdir(root / "outputs")
    assert run_main(capsys, monkeypatch, "runs", "list") == (0, "", "no run in outputs/ or multirun/\n")


def test_one_run(finished_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run_main(capsys, monkeypatch, "runs", "show", str(finished_run))
    assert code == 0
    assert all(word in out for word in ("done", "frozenlake", "3 of 3", "checkpoint-3", "validation", "base"))
    assert len(out.splitlines()) <= 40, "one screen"
    code, out, _ = run_main(capsys, monkeypatch, "runs", "show", str(finished_run), "--json")
    found = json.loads(out)
    assert (found["status"], found["final"]["split"], found["config"]["env"]["name"]) == ("done", "test", "frozenlake")
    assert [row["update"] for row in found["evaluations"] if row["split"] == "validation"] == [0, 2, 3]


def test_a_broken_run_is_shown(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(finished_run, tmp_path / "torn")
    (run / "run.json").write_text('{"status"')
    code, out, _ = run_main(capsys, monkeypatch, "runs", "show", str(run))
    assert code == 0
    assert "broken" in out
