"""Sweeps of real runs: every launcher, failures, crashes, kills, and going on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from msgrpo_cli.analysis.report.build import report_on
from msgrpo_cli.config.hydra_app import hash_of_overrides
from msgrpo_cli.errors import UsageError
from msgrpo_cli.launch.side_by_side import threads_of_a_job
from msgrpo_cli.launch.sweep import planned, resume_sweep
from msgrpo_cli.runs.sweep import Job, Sweep
from support.commands import run

TINY = [
    "experiment=smoke", "max_updates=1", "eval.episodes=4", "algo.groups_per_update=1", "eval.every=0",
]  # fmt: skip
GRID = [*TINY, "seed=0,1", "algo.sample_fraction=0.25,1"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
LAUNCHERS = {
    "basic": "hydra_core",
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "slurm_local": "hydra_plugins.hydra_submitit_launcher",
    "ray": "hydra_plugins.hydra_ray_launcher",
}


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MSGRPO_CONFIG_DIR", raising=False)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "msgrpo_cli", "sweep", *arguments]


def swept(folder: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = subprocess.run(
        command(*arguments, "--json"), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == code, done.stderr
    outcome = json.loads(done.stdout)
    assert isinstance(outcome, dict)
    return outcome


def wait_for(what: Callable[[], bool], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)


def figures(directory: Path) -> dict[str, list[Any]]:
    """What every job reached, without what the clock measured."""
    return {
        file.parent.name: [
            {key: value for key, value in json.loads(line).items() if not key.startswith("perf/")}
            for line in file.read_text().splitlines()
        ]
        for file in directory.glob("*/metrics.jsonl")
    }


def said_by_report(directory: Path) -> list[Any]:
    """Scores and rankings of a sweep's report, without directories and seconds."""
    report = report_on([directory])
    assert report.unfinished == ()
    groups = [(group.label, group.seeds, group.scores) for group in report.groups]
    return [groups, report.differences, report.comparisons]


def launcher(name: str) -> list[str]:
    if name != "basic":
        pytest.importorskip(LAUNCHERS[name])
    return [f"hydra/launcher={name}", *(["hydra.launcher.n_jobs=2"] if name == "joblib" else [])]


def test_a_plan_names_directories(tmp_path: Path) -> None:
    found = planned([*GRID, "hydra.sweep.dir=all"], [])
    assert found is not None and found["sweep"] == "all" and len(found["jobs"]) == 4
    for job in found["jobs"]:
        assert job["run"] == f"all/{hash_of_overrides(job['overrides'])}"
        assert 0 < job["hours"] < 0.1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "settings", "jobs", "threads"),
    [
        ("hydra._internal.core_plugins.basic_launcher.BasicLauncher", {}, 8, None),
        ("joblib", {"n_jobs": 2}, 8, 4),
        ("joblib", {"n_jobs": -1}, 4, 2),
        ("joblib", {"n_jobs": -1}, 100, 1),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher", {}, 3, 2),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher", {}, 3, None),
    ],
)
def test_cores_are_shared_out(
    monkeypatch: pytest.MonkeyPatch, target: str, settings: dict[str, int], jobs: int, threads: int | None
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_of_a_job({"_target_": target, **settings}, jobs) == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_of_a_job({"_target_": target, **settings}, jobs) is None, "what the user sets holds"


def test_a_changed_config_is_refused(tmp_path: Path) -> None:
    """Before anything of the sweep is touched."""
    sweep = Sweep(tmp_path / "all")
    sweep.path.mkdir()
    jobs = [Job(("experiment=smoke", f"seed={seed}"), sweep.path / f"{seed}", "of another config") for seed in (0, 1)]
    overrides = ["experiment=smoke", "seed=0,1"]
    sweep.create(jobs, overrides=overrides, config_dirs=[], from_checkpoint=None, command=[], threads=None)
    before = sweep.file.read_text()
    with pytest.raises(UsageError, match=r"all/0: the config of this job is another one now; start a new sweep"):
        resume_sweep("all")
    assert sweep.file.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--resume", "none"), "none: no such sweep"),
        (("--resume", "none", "seed=1"), "seed=1: a sweep goes on as it began; leave it out beside --resume"),
        (("hydra/sweeper=optuna", "seed=0,x"), "seed=x: should be a valid integer"),
        (("hydra/sweeper=optuna", "algo.sample_fraction=interval(0.5,2)"), "algo.sample_fraction=2"),
        (("hydra/sweeper=optuna", "seed=0"), "hydra/sweeper=optuna: nothing to search"),
        (("hydra/sweeper=optuna", "seed=0,1", "hydra.sweeper.sampler=best"), "hydra.sweeper.sampler=best: must be one"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    arguments: tuple[str, ...],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "optuna" in arguments[0]:
        pytest.importorskip("optuna")
    code, said = run(monkeypatch, "sweep", *arguments), capsys.readouterr()
    assert (code, said.out) == (2, ""), said.err
    assert f"error: {line}" in said.err and "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_an_experiment_may_bring_its_grid(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nhydra:\n  sweeper:\n    params:\n      seed: 0,1\n      algo.sample_fraction: 0.25,1\n"
    (tmp_path / "experiment" / "two.yaml").write_text(text)
    found = planned(["experiment=two", "max_updates=3"], [tmp_path])
    assert found is not None
    assert [job["overrides"][:2] for job in found["jobs"]] == [
        [f"seed={seed}", f"algo.sample_fraction={share}"] for seed in (0, 1) for share in ("0.25", "1")
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Two configurations with two seeds each, never interrupted, one after the other."""
    folder = tmp_path_factory.mktemp("whole")
    return folder / "all", swept(folder, *GRID, "hydra.sweep.dir=all")


@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_sweep_killed_midway_ends_as_an_uninterrupted_one(
    tmp_path: Path, name: str, whole: tuple[Path, dict[str, Any]]
) -> None:
    """Under every launcher; the sweep dies with all its processes."""
    process = subprocess.Popen(
        command(*GRID, *launcher(name), "hydra.sweep.dir=killed"), cwd=tmp_path, env=ENVIRONMENT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: any('"done"' in file.read_text() for file in tmp_path.glob("killed/*/run.json")))
    for one in (*psutil.Process(process.pid).children(recursive=True), process):
        with contextlib.suppress(psutil.Error):
            one.kill()
    process.wait()
    wait_for(lambda: not any(str(tmp_path) in " ".join(_words(child)) for child in psutil.process_iter()))
    finished = [file.parent for file in tmp_path.glob("killed/*/run.json") if '"done"' in file.read_text()]
    before = {file: file.stat().st_mtime_ns for folder in finished for file in folder.glob("eval/best.json")}
    assert 1 <= len(before) < 4
    killed, (directory, straight) = swept(tmp_path, "--resume", "killed"), whole
    assert [job["status"] for job in killed["jobs"]] == [job["status"] for job in straight["jobs"]] == ["done"] * 4
    assert [job["overrides"] for job in killed["jobs"]] == [job["overrides"] for job in straight["jobs"]]
    assert figures(tmp_path / "killed") == figures(directory)
    assert said_by_report(tmp_path / "killed") == said_by_report(directory)
    assert (tmp_path / "killed" / "report.html").stat().st_size > 10_000
    assert {file: file.stat().st_mtime_ns for file in before} == before, "a finished job is never run twice"


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "endings"), [("basic", "kill,exit,raise,none"), ("joblib", "kill,none")])
def test_a_job_that_crashes_or_exits_ends_no_other(tmp_path: Path, name: str, endings: str) -> None:
    """Games that end their process, by a signal, or by an exit; and a job that raises. Every launcher looks at a job's
    own process in the same way: two at once need not try all."""
    (tmp_path / "crashes.py").write_text(CRASHING)
    folder = tmp_path / "mine" / "env"
    folder.mkdir(parents=True)
    for ending in ("kill", "exit", "raise", "none"):
        text = f"name: {ending}\nid: crashes:me/Crash-v0\nmax_steps: 4\nending: {ending}\n"
        (folder / f"{ending}.yaml").write_text(text)
    sweep = [*TINY, *launcher(name), f"env={endings}", "--config-dir", "mine", "hydra.sweep.dir=all"]
    outcome = swept(tmp_path, *sweep, code=1)
    assert Path(outcome["sweep"]).samefile(tmp_path / "all")
    told = {"kill": "its process was ended by SIGKILL", "exit": "exit code 7", "raise": "the game broke"}
    for ending, job in zip(endings.split(","), outcome["jobs"], strict=True):
        assert job["status"] == ("done" if ending == "none" else "failed"), ending
        assert job["error"] is None if ending == "none" else told[ending] in job["error"]
        assert Path(job["log"]).is_file()
        assert Path(job["run"]).name == hash_of_overrides(job["overrides"])


CRASHING = """
import os, signal
import gymnasium
from msgrpo_cli.games import TextMediatedStochasticGame

class Crash(TextMediatedStochasticGame):
    actions = ("left", "right")
    initial_states = "few"
    def __init__(self, max_steps=4, ending="none"):
        super().__init__(max_steps)
        self.ending, self.place = ending, 0
    def new_game(self, rng):
        self.place = int(rng.integers(3))
    def play(self, action):
        self.place += 1
        if "update" in os.environ.get("CRASH", "") or self.worker():
            if self.ending == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.ending == "exit":
                os._exit(7)
            if self.ending == "raise":
                raise RuntimeError("the game broke")
        return 0.0, None
    def worker(self):
        import sys
        return "trl" in sys.modules  # what checks and plans a job does not import it
    def describe(self, observation="full"):
        return f"You are at {self.place}."
    def rules(self):
        return "Walk."
    def state_key(self):
        return bytes([self.place])

gymnasium.register("me/Crash-v0", entry_point=Crash)
"""


@pytest.mark.slow
def test_fail_fast_ends_the_others(tmp_path: Path) -> None:
    bounds = "engine.max_logprob_gap=0,1,2"  # rounding alone exceeds the first
    outcome = swept(tmp_path, *TINY, bounds, "hydra.sweep.dir=all", "--fail-fast", code=1)
    assert [job["status"] for job in outcome["jobs"]] == ["failed", "not started", "not started"]
    assert "engine.max_logprob_gap 0" in outcome["jobs"][0]["error"]
    damaged = Path(outcome["jobs"][1]["run"])
    damaged.mkdir(exist_ok=True)
    (damaged / "run.json").write_text("[]")
    again = swept(tmp_path, "--resume", "all", code=1)
    assert [job["status"] for job in again["jobs"]] == ["failed", "failed", "done"], "without it they run"
    assert "broken" in again["jobs"][1]["error"] and Path(again["report"]).is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("name", ["basic", "joblib"])
def test_an_interrupted_sweep_saves_its_jobs(tmp_path: Path, name: str, number: signal.Signals, code: int) -> None:
    overrides = [
        "experiment=smoke",
        "max_updates=400",
        "eval.every=0",
        "save.every=400",
        "seed=0,1",
        "hydra.sweep.dir=all",
    ]
    process = subprocess.Popen(
        command(*overrides, *launcher(name)), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    wait_for(lambda: any('"kind": "train"' in file.read_text() for file in tmp_path.glob("all/*/metrics.jsonl")))
    os.killpg(process.pid, number)  # as a terminal does
    out, err = process.communicate(timeout=600)
    assert (process.returncode, out) == (code, ""), err
    assert "msgrpo sweep --resume" in err and "Traceback" not in err
    records = [json.loads(file.read_text()) for file in tmp_path.glob("all/*/run.json")]
    assert "interrupted" in {record["status"] for record in records} <= {"interrupted", "running"}
    assert any(tmp_path.glob("all/*/checkpoints/checkpoint-*")), "the last finished update is saved"


@pytest.mark.slow
def test_a_sweep_does_not_go_on_while_a_job_of_it_still_runs(tmp_path: Path) -> None:
    """As under a scheduler, whose jobs outlive the sweep that started them."""
    overrides = ["experiment=smoke", "max_updates=4000", "eval.every=0", "seed=0,1", "hydra.sweep.dir=all"]
    process = subprocess.Popen(
        command(*overrides), cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: any(file.stat().st_size for file in tmp_path.glob("all/*/metrics.jsonl")))
    [record] = [json.loads(file.read_text()) for file in tmp_path.glob("all/*/run.json")]
    os.kill(record["pid"], signal.SIGSTOP)
    process.kill()
    process.wait()
    try:
        done = subprocess.run(command("--resume", "all"), cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert (done.returncode, done.stdout) == (2, "")
        assert "this job still runs; wait for it or end it" in done.stderr
    finally:
        os.kill(record["pid"], signal.SIGCONT)
    wait_for(lambda: json.loads(next(tmp_path.glob("all/*/run.json")).read_text())["status"] == "interrupted")


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 1.5, 8.0])
def test_a_job_whose_directory_is_removed_does_not_come_back_half(tmp_path: Path, seconds: float) -> None:
    """Before its process looks for it, while it comes up, and while it trains."""
    overrides = ["experiment=smoke", "max_updates=4000", "eval.every=0", "seed=0", "hydra.sweep.dir=all", "--json"]
    process = subprocess.Popen(
        command(*overrides), cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    wait_for(lambda: any(tmp_path.glob("all/*/run.json")))
    time.sleep(seconds)
    [folder] = [file.parent for file in tmp_path.glob("all/*/run.json")]
    folder.rename(tmp_path / "elsewhere")  # its name disappears in one stroke
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    assert [job["status"] for job in json.loads(out)["jobs"]] == ["not started"]
    assert not folder.exists()
