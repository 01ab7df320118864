"""How jobs stand, told from directories as runs and sweeps leave them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from msgrpo_cli.common.jsonl import append_lines
from msgrpo_cli.errors import UsageError
from msgrpo_cli.launch.sweep_display import SweepDisplay, table
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.sweep import Job, JobState, Sweep, find_sweep, state_of


def created(path: Path, overrides: list[str]) -> Run:
    run = Run(path)
    run.create(command=["msgrpo", "sweep"], overrides=overrides, config="seed: 0\nmax_updates: 40\n")
    return run


def began(run: Run) -> None:
    run.begin(command=["msgrpo", "train"], overrides=[], config_hash="x", device="cpu", threads=1)


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def died(path: Path, host: str | None = None) -> None:
    """The process that worked there is gone."""
    pid, here = dead_process(), host or socket.gethostname()
    (path / ".lock").write_text(json.dumps({"pid": pid, "host": here}))
    Run(path).update_record(pid=pid, host=here)


def sweep_of(path: Path, *names: str) -> Sweep:
    sweep = Sweep(path)
    sweep.create([Job((f"seed={name}",), path / name, "hash") for name in names], overrides=["seed=..."])
    return sweep


def test_every_status_is_told_from_the_directory_alone(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "a", "b", "c", "d", "e", "f", "g")
    created(tmp_path / "b", ["seed=b"])
    for name in "cdefg":
        began(created(tmp_path / name, [f"seed={name}"]))
    died(tmp_path / "d")
    Run(tmp_path / "e").finish("failed", "no memory")
    Run(tmp_path / "f").finish("interrupted")
    Run(tmp_path / "g").update_record(status="interrupted", pruned=True)
    states = sweep.states()
    assert [state.status for state in states] == [
        "not started", "starting", "running", "lost", "failed", "interrupted", "pruned",
    ]  # fmt: skip
    assert [state.max_updates for state in states] == [None, *[40] * 6]
    assert states[4].error == "no memory"
    data = states[4].as_data()
    assert (data["run"], data["overrides"], data["log"]) == (str(tmp_path / "e"), ["seed=e"], None)


def test_a_process_of_another_machine_is_not_called_dead(tmp_path: Path) -> None:
    began(created(tmp_path / "a", []))
    died(tmp_path / "a", host="elsewhere")
    assert state_of(Job((), tmp_path / "a")).status == "running"


def test_progress_is_read_from_the_end_of_long_files(tmp_path: Path) -> None:
    run = created(tmp_path / "a", [])
    rows = [{"kind": "train", "update": update, "text": "x" * 900} for update in range(1, 301)]
    append_lines(run.metrics, [*rows, {"kind": "eval", "update": 300, "mean_total_reward": 0.5}])
    with run.metrics.open("a", encoding="utf-8") as file:
        file.write('{"kind": "train", "upd')
    state = state_of(Job((), run.path))
    assert (state.update, state.score) == (300, 0.5)
    run.update_record(summary={"best": {"mean_total_reward": 0.75}})
    assert state_of(Job((), run.path)).score == 0.75


def test_jobs_that_a_sweeper_chose_are_found(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "a")
    for name, when in (("late", 2000), ("early", 1000)):
        file = tmp_path / name / ".hydra" / "overrides.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(f"- seed={when}\n")
        os.utime(file, (when, when))
    begins = tmp_path / "begins" / ".hydra" / "overrides.yaml"  # made by Hydra, not yet written
    begins.parent.mkdir(parents=True)
    begins.touch()
    assert [job.overrides for job in sweep.jobs()] == [("seed=a",), ("seed=1000",), ("seed=2000",)]


def test_a_sweep_is_found_by_directory_last_and_prefix(tmp_path: Path) -> None:
    for number, name in enumerate(("1200-ab", "1300-cd"), 1):
        folder = tmp_path / "multirun" / "2026-01-01" / name
        folder.mkdir(parents=True)
        sweep_of(folder).update_record(start=f"2026-01-0{number}")
    assert find_sweep("last", tmp_path) == find_sweep("13", tmp_path)
    assert find_sweep("last", tmp_path).path.name == "1300-cd"
    assert find_sweep(str(folder), tmp_path).path == folder
    for text, said in (
        ("1", "1: 2 sweeps begin so"),
        ("x", "x: no such sweep"),
        (str(tmp_path), "it has no sweep.json"),
    ):
        with pytest.raises(UsageError, match=said):
            find_sweep(text, tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"jobs": 3}', "{", '{"jobs": [{}]}', '{"jobs": ["a"]}'])
def test_a_broken_record_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(UsageError, match=r"sweep\.json: (broken|not readable)"):
        Sweep(tmp_path).jobs()


def rendered(states: list[JobState], width: int, height: int = 40) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(table(states, width, height))
    return console.export_text()


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_table_fits_the_terminal(tmp_path: Path, width: int) -> None:
    shared = "env=snake_8"
    states = [
        JobState(Job((shared, f"seed={n}"), tmp_path / f"{n:06d}abc"), status, 17, 180, -1.25, 3725.0, error)
        for n, (status, error) in enumerate([("running", None), ("failed", "a very long reason " * 20)])
    ]  # type: ignore[arg-type]
    text = rendered(states, width)
    assert max(map(len, text.splitlines())) <= width
    assert "17/180" in text and "-1.250" in text and "1:02:05" in text and "seed=0" in text
    assert shared not in text, "what all jobs share tells nothing"
    assert "2 jobs: 1 running, 1 failed" in text


def test_of_many_jobs_the_most_telling_ones_are_shown(tmp_path: Path) -> None:
    states = [JobState(Job((f"seed={n}",), tmp_path / f"{n:06d}"), "done") for n in range(90)]
    states += [
        JobState(Job(("seed=90",), tmp_path / "run"), "running"),
        JobState(Job(("seed=91",), tmp_path / "x"), "failed"),
    ]
    text = rendered(states, 100, height=20)
    assert len(text.splitlines()) <= 20
    assert "seed=90" in text and "seed=91" in text
    assert "92 jobs: 1 running, 1 failed, 90 done; 78 are not shown" in text


def test_the_record_is_strict_json(tmp_path: Path) -> None:
    record = json.loads(sweep_of(tmp_path, "a").file.read_text())
    assert record["jobs"] == [{"overrides": ["seed=a"], "run": "a", "config_hash": "hash"}]
    assert (record["status"], record["overrides"]) == ("running", ["seed=..."])


def test_plain_lines_say_of_which_part_a_reward_is(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "a", "b")
    for name, state in (("a", "running"), ("b", "done")):
        run = created(tmp_path / name, [f"seed={name}"])
        began(run)
        run.update_record(status=state, summary={"best": {"mean_total_reward": 0.75}} if state == "done" else {})
        append_lines(run.metrics, [{"kind": "eval", "update": 0, "mean_total_reward": 0.5}])
    console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    display = SweepDisplay(sweep, console=console)
    display._looks = 1
    display._tell(sweep.states())
    first, second = console.export_text().splitlines()
    assert first.startswith("job 1/2 running  validation 0.500") and second.startswith("job 2/2 done  test 0.750")
