"""Runs of several processes beside each other: two at once, from a thread, and as jobs of a sweep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.launch.side_by_side import check_gpus, check_nodes_of_a_job
from msgrpo_cli.launch.sweep_job import SweepJob
from support.commands import run

TWO = [
    "experiment=smoke", "max_updates=2", "eval.episodes=4", "algo.groups_per_update=2", "eval.every=0",
    "parallel=ddp", "parallel.processes=2", "trainer.use_cpu=true",
]  # fmt: skip
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def started(folder: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def outcome_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    outcome: dict[str, Any] = json.loads(out.splitlines()[-1])
    return outcome


THREAD = """
import json, sys, threading
from msgrpo_cli import train
found = []
thread = threading.Thread(target=lambda: found.append(train(*sys.argv[1:], "hydra.run.dir=here")))
thread.start()
thread.join()
print(json.dumps(found[0]))
"""


@pytest.mark.slow
def test_a_run_from_a_thread(tmp_path: Path) -> None:
    """As in a notebook's worker: signals are the main thread's business, and stay so."""
    assert outcome_of(started(tmp_path, "-c", THREAD, *TWO))["status"] == "done"
    assert json.loads((tmp_path / "here/run.json").read_text())["status"] == "done"


@pytest.fixture(scope="module")
def by_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, by one process."""
    from msgrpo_cli.training.train import train_job

    run = tmp_path_factory.mktemp("by-one") / "run"
    one = [text for text in TWO if not text.startswith("parallel")]
    train_job(compose("train", one), run, command=["test"], overrides=one)
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "plugin", "counts"),
    [("basic", "hydra", "2"), ("joblib", "hydra_plugins.hydra_joblib_launcher", "1,2"),
     ("slurm_local", "hydra_plugins.hydra_submitit_launcher", "2"), ("ray", "hydra_plugins.hydra_ray_launcher", "2")],
)  # fmt: skip
def test_jobs_of_several_processes_under_every_launcher(
    tmp_path: Path, by_one: Path, launcher: str, plugin: str, counts: str
) -> None:
    """Their episodes are those of one process. Two at once have ports of their own."""
    pytest.importorskip(plugin)
    two = [text for text in TWO if not text.startswith("parallel.processes")]
    at_once = ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    choices = [f"parallel.processes={counts}", f"hydra/launcher={launcher}", *at_once]
    jobs = outcome_of(started(tmp_path, "-m", "msgrpo_cli", "sweep", *two, *choices, "--json"))["jobs"]
    assert [job["status"] for job in jobs] == ["done" for _ in counts.split(",")]
    for job in jobs:
        assert (Path(job["run"]) / "episodes.jsonl").read_bytes() == (by_one / "episodes.jsonl").read_bytes()


@pytest.mark.parametrize(("processes", "threads"), [(1, "6"), (2, "3"), (4, "1"), (16, "1")])
def test_a_job_s_cores_are_shared_out_among_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int, threads: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as some launchers set it for their workers
    config = compose("train", ["parallel=ddp", f"parallel.processes={processes}"])
    job = SweepJob(tmp_path, [], 0, 0, threads=6)
    assert job._environment(config)["OMP_NUM_THREADS"] == threads


JOBLIB = {"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "n_jobs": 2}
LOCAL = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"}
SLURM = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}
RAY = {"_target_": "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"}
BASIC = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}


@pytest.mark.parametrize(
    ("launcher", "remedy"),
    [(JOBLIB, "hydra.launcher.n_jobs=1"), (LOCAL, "hydra/launcher=basic"), (RAY, "ray.remote.num_gpus=4")],
)
def test_jobs_at_once_on_the_same_gpus_are_refused(
    monkeypatch: pytest.MonkeyPatch, launcher: dict[str, Any], remedy: str
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    four = [compose("train", ["parallel=ddp", "parallel.processes=4"])] * 2
    with pytest.raises(UsageError, match=rf"^parallel=ddp: 2 jobs at once would each take GPUs 0 to 3 .*{remedy}"):
        check_gpus(launcher, 2, four)


@pytest.mark.parametrize(
    ("launcher", "jobs", "texts", "gpus"),
    [
        (BASIC, 2, ["parallel=ddp"], 8),  # one after the other
        (SLURM, 2, ["parallel=ddp"], 8),  # a cluster gives each its own
        ({**JOBLIB, "n_jobs": 1}, 2, ["parallel=ddp"], 8),
        (JOBLIB, 1, ["parallel=ddp"], 8),
        (JOBLIB, 2, ["parallel=ddp", "parallel.processes=4", "trainer.use_cpu=true"], 8),
        (JOBLIB, 2, ["parallel=ddp", "parallel.processes=4"], 0),  # no GPU is here
        (JOBLIB, 2, [], 8),  # one process each: nothing new
        ({**RAY, "ray": {"remote": {"num_gpus": 4}}}, 2, ["parallel=ddp", "parallel.processes=4"], 8),
    ],
)
def test_other_jobs_are_not(
    monkeypatch: pytest.MonkeyPatch, launcher: dict[str, Any], jobs: int, texts: list[str], gpus: int
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    check_gpus(launcher, jobs, [compose("train", texts)] * jobs)


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["parallel=ddp", "parallel.processes=8", "parallel.nodes=2"], None),
        (["parallel=ddp", "parallel.processes=8", "parallel.nodes=3"], "parallel.nodes=3: hydra.launcher.nodes=2 asks"),
        (["parallel=ddp", "parallel.processes=9"], "parallel.processes=9: hydra.launcher.gpus_per_node=8 asks"),
        (["parallel=ddp", "parallel.processes=9", "trainer.use_cpu=true"], None),
        ([], None),
    ],
)
def test_a_slurm_job_has_what_its_run_needs(texts: list[str], told: str | None) -> None:
    sizes, config = {"nodes": 2, "gpus_per_node": 8}, compose("train", texts)
    if told is None:
        check_nodes_of_a_job(sizes, [config])
    else:
        with pytest.raises(UsageError, match=f"^{told}"):
            check_nodes_of_a_job(sizes, [config])


def test_a_sweep_on_slurm_asks_for_what_parallel_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.chdir(tmp_path)
    shape = ["parallel=ddp", "parallel.nodes=2", "parallel.processes=4"]
    command = ["sweep", "experiment=smoke", "seed=0,1", "hydra/launcher=slurm", "--dry-run"]

    def planned(*arguments: str) -> dict[str, Any]:
        assert run(monkeypatch, *command, *arguments, "--json") == 0
        plan: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return plan["slurm"]

    assert planned(*shape) == {
        "nodes": 2, "tasks_per_node": 1, "gpus_per_node": 4, "cpus_per_task": 32, "timeout_min": 1440
    }  # fmt: skip
    alone = planned()
    assert (alone["nodes"], alone["gpus_per_node"], alone["cpus_per_task"]) == (1, 1, 8)
    run(monkeypatch, *command, "parallel=ddp", "parallel.processes=4", "parallel.nodes=1,2")
    assert "give hydra.launcher.nodes=2" in capsys.readouterr().err
    run(monkeypatch, *command, *shape)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("each is queued with nodes=2 tasks_per_node=1 gpus_per_node=4")
