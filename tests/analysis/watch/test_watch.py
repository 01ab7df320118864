"""`msgrpo watch`: on finished runs, on directories in every odd state, and on a live run that is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from msgrpo_cli.analysis.watch.screen import Screen, news
from msgrpo_cli.analysis.watch.state import WatchedRun
from msgrpo_cli.cli.app import app
from msgrpo_cli.errors import RunError
from msgrpo_cli.runs.directory import Run
from support.recorded_episodes import episode
from support.terminals import plain, terminal

DEAD = 2**22 + 1  # above the largest pid that Linux gives


def watch(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["watch", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def train_row(update: int, **values: Any) -> dict[str, Any]:
    seconds = {"perf/seconds_rollout": 3.0, "perf/seconds_update": 1.0, "perf/seconds_total": 4.0}
    figures = {"total_reward": update / 10, "success_rate": update / 20, "entropy": 0.5, "skipped": False}
    return {"kind": "train", "update": update, **figures, **seconds, **values}


def eval_row(update: int) -> dict[str, Any]:
    figures = {"mean_total_reward": 0.5, "success_rate": 0.25, "greedy_success_rate": 0.3, "perf/wall_seconds": 10.0}
    return {"kind": "eval", "update": update, "env": "lake", "split": "validation", **figures}


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def running(tmp_path: Path) -> Path:
    """A run that this very process is said to work on, after 10 of 30 updates."""
    run = tmp_path / "outputs" / "day" / "some-run"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"schema": 1, "status": "running", "start": "2026-01-01T00:00:00+00:00"}))
    (run / ".lock").write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    config = "max_updates: 30\neval: {every: 10}\nmodel: {name: tiny}\nenv: {name: lake}\n"
    (run / "config.yaml").write_text(config)
    rows = [eval_row(0), *(train_row(update) for update in range(1, 11)), eval_row(10)]
    (run / "metrics.jsonl").write_text(lines(*rows))
    (run / "episodes.jsonl").write_text(lines(*(episode(update=10, member=n) for n in range(20))))
    progress = {"schema": 1, "phase": "rollout", "finished": 3, "total": 8, "since": "2026-01-01T00:00:00.000+00:00"}
    (run / "progress.json").write_text(json.dumps({**progress, "pid": os.getpid(), "host": socket.gethostname()}))
    return run


def looked(run: Path) -> WatchedRun:
    watched = WatchedRun(Run(run))
    watched.look()
    return watched


def frame(run: Path, columns: int, height: int) -> list[str]:
    console = Console(width=columns, height=height, force_terminal=True, color_system=None)
    with console.capture() as caught:
        console.print(Screen(looked(run)), height=height)
    return plain(caught.get()).rstrip("\n").split("\n")


def test_a_finished_run(finished_run: Path) -> None:
    code, out, err = watch(finished_run)
    assert (code, err) == (0, "")
    assert "tiny on frozenlake" in out and "\ndone\n" in out and "update 3/3" in out
    for name in ("rollout", "scoring", "update", "evaluation", "last episodes"):
        assert f"\n{name}" in out
    assert "go on with" not in out and "phase " not in out
    assert watch(finished_run, "--once") == (0, out, "")


def test_a_finished_run_leaves_no_progress_behind(finished_run: Path) -> None:
    assert not (finished_run / "progress.json").exists()
    assert not list(finished_run.glob(".progress*"))


def test_where_a_running_run_stands(running: Path) -> None:
    code, out, _ = watch(running, "--json")
    found = json.loads(out)
    assert code == 0 and found["process"] == {"pid": os.getpid(), "host": socket.gethostname(), "alive": True}
    assert (found["status"], found["died"], found["resume"]) == ("running", False, None)
    assert (found["update"], found["max_updates"]) == (10, 30)
    assert (found["phase"]["phase"], found["phase"]["finished"], found["phase"]["total"]) == ("rollout", 3, 8)
    assert found["seconds"]["rollout"] == {"last": 3.0, "median": 3.0, "total": 30.0}
    assert found["seconds"]["evaluation"]["total"] == 20.0
    assert found["seconds_left"] == 20 * 4.0 + (2 + 1) * 10.0, "updates, two evaluations, and that of the best"
    assert found["last_update"]["update"] == 10 and found["last_evaluation"]["split"] == "validation"
    assert "phase rollout 3/8 for " in watch(running, "--once")[1]


@pytest.mark.parametrize("columns", [60, 100, 160])
@pytest.mark.parametrize("height", [24, 40])
def test_it_fits(running: Path, columns: int, height: int) -> None:
    shown = frame(running, columns, height)
    assert len(shown) <= height and max(map(len, shown)) <= columns
    whole = "\n".join(shown)
    assert "update 10/30" in whole and "about 0:01:50 left" in whole and "phase rollout 3/8" in whole
    assert "success: training 0.500, o validation 0.250" in whole
    assert ("total reward: training 1.000" in whole) == (height == 40 or columns >= 100)
    assert whole.count("✓ update 10, group 0.") in (4, 8)


def test_reward_and_success_that_are_one_curve_are_drawn_once(running: Path) -> None:
    row = {**eval_row(0), "mean_total_reward": 0.25}
    (running / "metrics.jsonl").write_text(lines(row, train_row(1, total_reward=0.5, success_rate=0.5)))
    whole = "\n".join(frame(running, 160, 40))
    assert "total reward and success: training 0.500" in whole and "\nsuccess" not in whole


def test_files_in_odd_states_do_no_harm(running: Path) -> None:
    with (running / "metrics.jsonl").open("a") as file:
        file.write('nonsense\n[]\n{"kind": "train", "update": "x"}\n{"kind": "train", "update": 11}\n{"kind": "tr')
    (running / "episodes.jsonl").write_text(lines({"update": 3}, episode(ended_by="\x1b[2J", success=None)) + '{"up')
    (running / "progress.json").write_text('{"phase": ')
    (running / "config.yaml").write_text("max_updates: [")
    whole = "\n".join(frame(running, 100, 40))
    assert "update 11/?" in whole and "? not an episode" in whole and "· update 1, group 0.0  \\x1b[2J" in whole


def test_a_run_that_has_only_begun(running: Path) -> None:
    for name in ("metrics.jsonl", "episodes.jsonl", "progress.json", "config.yaml", ".lock"):
        (running / name).unlink()
    found = json.loads(watch(running, "--json")[1])
    assert (found["update"], found["max_updates"], found["process"], found["seconds_left"]) == (0, None, None, None)
    assert "no update is finished yet" in "\n".join(frame(running, 60, 24))


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_an_end_before_its_time_comes_with_the_reason_and_the_way_on(running: Path, status: str) -> None:
    (running / "run.json").write_text(json.dumps({"schema": 1, "status": status, "error": "RunError: too hot\x07"}))
    code, out, _ = watch(running)
    assert code == 0 and f"\n{status}\n" in out
    lines = out.splitlines()
    assert "RunError: too hot\\x07" in out and lines[-1] == f"go on with: msgrpo train --resume {running}"


def test_a_process_that_is_gone(running: Path) -> None:
    (running / ".lock").write_text(json.dumps({"pid": DEAD, "host": socket.gethostname()}))
    code, out, _ = watch(running)
    assert code == 0 and f"died, process {DEAD} on {socket.gethostname()} is gone" in out
    assert "it was in rollout at 3 of 8" in out and "go on with: msgrpo train --resume " in out


def test_a_process_that_has_only_inherited_the_number(running: Path) -> None:
    """The test began after the run is said to have written last."""
    for path in running.iterdir():
        os.utime(path, (1e9, 1e9))
    assert looked(running).died


def test_a_process_on_another_host_may_live(running: Path) -> None:
    (running / ".lock").write_text(json.dumps({"pid": DEAD, "host": "elsewhere"}))
    watched = looked(running)
    assert not watched.ended and watched.process is not None and watched.process.alive is None
    for path in running.iterdir():
        os.utime(path, (time.time() - 600, time.time() - 600))
    assert ", silent for 0:10:00" in watch(running, "--once")[1]


def test_an_end_between_two_looks_is_no_death(running: Path) -> None:
    """run.json is read again where the process is found gone. The lock is a pipe here: who reads it waits for us."""
    (running / ".lock").unlink()
    os.mkfifo(running / ".lock")

    def ends_meanwhile() -> None:
        with (running / ".lock").open("w") as asked:
            (running / "run.json").write_text(json.dumps({"schema": 1, "status": "done"}))
            asked.write(json.dumps({"pid": DEAD, "host": socket.gethostname()}))

    thread = threading.Thread(target=ends_meanwhile)
    thread.start()
    watched = looked(running)
    thread.join()
    assert watched.status == "done" and not watched.died and watched.resume is None


def test_a_directory_that_is_removed_meanwhile(running: Path) -> None:
    watched = looked(running)
    shutil.rmtree(running)
    with pytest.raises(RunError, match="removed while it was watched"):
        watched.look()


@pytest.mark.parametrize("arguments", [["none"], ["none", "--once"], ["none", "--json"]])
def test_no_such_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = watch(*arguments)
    assert (code, out) == (2, "") and "none: no such run" in err


def test_rows_as_lines() -> None:
    assert news(train_row(3), 9) == "update 3/9: reward 0.300, success 0.150, entropy 0.500"
    assert news(train_row(3, skipped=True, entropy=None), 0) == "update 3/?: reward 0.300, success 0.150, skipped"
    assert news(eval_row(3), 9) == "after update 3, validation: reward 0.500, success 0.250, greedy success 0.300"


def between_looks(monkeypatch: pytest.MonkeyPatch, *events: Callable[[], object]) -> None:
    """What happens, one thing after another, while the watching process would sleep."""
    later = iter(events)
    monkeypatch.setattr(time, "sleep", lambda _: next(later)())


def test_without_a_terminal_lines_follow_until_the_end(running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def goes_on() -> None:
        with (running / "metrics.jsonl").open("a") as file:
            file.write(lines(*(train_row(update) for update in range(11, 21)), eval_row(20)))

    def ends() -> None:
        (running / "run.json").write_text(json.dumps({"schema": 1, "status": "done"}))

    between_looks(monkeypatch, lambda: None, goes_on, lambda: None, ends)
    code, out, _ = watch(running)
    assert code == 0 and out.count("update 10/30") == 1 and out.count("update 20/30") == 1
    assert "\nafter update 20, validation: reward 0.500, success 0.250, greedy success 0.300\n" in out
    assert out.index("running") < out.index("after update 20") < out.index("\ndone")


def test_without_a_terminal_a_directory_that_is_removed_ends_it(running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    between_looks(monkeypatch, lambda: shutil.rmtree(running))
    code, _, err = watch(running)
    assert code == 1 and err == f"error: {running}: removed while it was watched\n"


def test_on_a_terminal_it_survives_being_made_smaller_and_ctrl_c(running: Path) -> None:
    with terminal("watch", str(running), columns=120, lines=40) as seen:
        seen.wait_for("phase rollout 3/8")
        mark = len(seen.output)
        seen.resize(60, 20)
        seen.wait_for("phase rollout 3/8", mark)
        seen.press("\x03")
        assert seen.wait_for_the_end() == 130
        assert f"{running} goes on" in seen.output and "Traceback" not in seen.output
        assert seen.output.count("\x1b[?25l") == seen.output.count("\x1b[?25h")
        assert seen.echoes()


@pytest.mark.slow
def test_a_live_run_that_is_killed(tmp_path: Path) -> None:
    """`msgrpo train` in one process, `msgrpo watch` in another, kill -9 for the first; then the run goes on."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    overrides = ["experiment=smoke", "max_updates=400", "eval.every=50", "hydra.run.dir=run"]
    command = [sys.executable, "-m", "msgrpo_cli"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    train = subprocess.Popen([*command, "train", *overrides], cwd=tmp_path, env=environment, **quiet)
    run = tmp_path / "run"
    try:
        until = time.monotonic() + 600
        while not (run / "run.json").exists():
            assert time.monotonic() < until and train.poll() is None
            time.sleep(0.05)
        with terminal("watch", "run", columns=100, lines=30, folder=tmp_path) as seen:
            seen.wait_for("phase ")
            seen.wait_for("total reward")
            seen.wait_for("last episodes")
            phase = json.loads((run / "progress.json").read_text())
            assert phase["pid"] == train.pid and phase["phase"] in {
                "start", "loading", "rollout", "scoring", "update", "evaluation", "checkpoint",
            }  # fmt: skip
            train.send_signal(signal.SIGKILL)
            assert seen.wait_for_the_end() == 0
            end = plain(seen.output[seen.output.rindex("\x1b[?1049l") :])
            assert f"died, process {train.pid}" in end and "it was in " in end
            assert "go on with: msgrpo train --resume run" in end.replace("\r\n", "")
    finally:
        train.kill()
        train.wait()
    more = [*command, "train", "--resume", "run", "max_updates=400"]
    again = subprocess.Popen(more, cwd=tmp_path, env=environment, **quiet)
    try:
        watched = WatchedRun(Run(run))
        until = time.monotonic() + 600
        while not (watched.status == "running" and watched.process and watched.process.pid == again.pid):
            assert time.monotonic() < until and again.poll() is None
            watched.look()
            time.sleep(0.05)
        assert not watched.died
        while watched.progress is None or watched.progress.pid != again.pid:
            assert time.monotonic() < until and again.poll() is None
            watched.look()
            time.sleep(0.05)
        again.send_signal(signal.SIGTERM)
        assert again.wait(600) == 143
    finally:
        again.kill()
        again.wait()
    watched.look()
    assert (watched.status, watched.died, watched.progress) == ("interrupted", False, None)
    assert not (run / "progress.json").exists()
