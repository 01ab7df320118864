"""Several nodes of one run: a shell script stands for srun and starts their agents on this machine."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support.commands import run as typed
from support.runs_at_work import A_MINUTE, CLOSE, PATIENCE, SIX_UPDATES, far_apart, record, started, until, updates
from support.stuck_game import write_game

pytest.importorskip("torch")  # here, for it is other processes that import it

TWO = ("parallel=ddp", "parallel.nodes=2", "parallel.processes=1")
SLURM = Path(__file__).parents[1] / "support" / "slurm"
ALLOCATION = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_JOB_NODELIST": "localhost",
    "PATH": os.pathsep.join([str(SLURM), os.environ["PATH"]]),
}


def agent(parent: subprocess.Popen[str], node: int) -> psutil.Process:
    below = psutil.Process(parent.pid).children(recursive=True)
    agents = [process for process in below if "msgrpo_cli.launch.nodes" in process.cmdline()]
    return next(one for one in agents if one.name() != "srun" and one.environ().get("SLURM_PROCID") == str(node))


def rank(parent: subprocess.Popen[str], node: int) -> psutil.Process:
    return next(child for child in agent(parent, node).children() if "RANK" in child.environ())


def torchrun_line(said: str) -> list[str]:
    """What --prepare prints."""
    return shlex.split(said.splitlines()[-1].removeprefix("on every machine: "))


def machines(line: list[str], port: int, **environment: str) -> list[subprocess.Popen[str]]:
    """Two that each type it."""
    words = [word.replace("HOST:PORT", f"localhost:{port}") for word in line[1:]]
    command = [sys.executable, "-m", "torch.distributed.run", "--local-addr=localhost", *words]
    known = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}
    return [
        subprocess.Popen(command, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]


def went_on(folder: Path, six_updates_by_one: Path, *arguments: str) -> None:
    """With the run until its end; its episodes are those of one process."""
    go_on = started(folder, "--resume", "run", *arguments, **ALLOCATION)
    _, err = go_on.communicate(timeout=PATIENCE)
    assert go_on.returncode == 0, err
    assert record(folder / "run")["status"] == "done"
    assert (folder / "run" / "episodes.jsonl").read_bytes() == (six_updates_by_one / "episodes.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_nodes_play_what_one_process_plays(tmp_path: Path, six_updates_by_one: Path, kind: str) -> None:
    process = started(tmp_path, *SIX_UPDATES, *TWO, f"parallel={kind}", "hydra.run.dir=run", **ALLOCATION)
    out, err = process.communicate(timeout=PATIENCE)
    run = tmp_path / "run"
    assert process.returncode == 0, err
    assert out == f"{run}\n"
    assert (run / "episodes.jsonl").read_bytes() == (six_updates_by_one / "episodes.jsonl").read_bytes()
    assert record(run)["processes"] == 2
    assert not (run / ".ranks").exists()
    assert err.count("run ") == err.count(f"run {run}") == 1, err


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["the parent", "agent 1", "rank 1"])
def test_all_leave_together_whoever_is_asked(tmp_path: Path, six_updates_by_one: Path, asked: str) -> None:
    run = tmp_path / "run"
    process = started(tmp_path, *SIX_UPDATES, *TWO, "hydra.run.dir=run", **ALLOCATION)
    until((run / "checkpoints" / "checkpoint-1").exists)
    whom = {"the parent": lambda: psutil.Process(process.pid), "agent 1": lambda: agent(process, 1)}
    whom.get(asked, lambda: rank(process, 1))().send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=A_MINUTE)
    assert process.returncode == 143, err
    assert record(run)["status"] == "interrupted"
    assert f"go on with: msgrpo train --resume {run}" in err
    last = f"checkpoint-{updates(run)[-1]}"
    assert far_apart(run / "checkpoints" / last, six_updates_by_one / "checkpoints" / last) < CLOSE
    if asked == "agent 1":  # from such a checkpoint the others would go on alike
        went_on(tmp_path, six_updates_by_one, "parallel.nodes=1", "parallel.processes=1")


@pytest.mark.slow
def test_a_rank_that_is_killed_is_named_with_its_machine(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started(tmp_path, *SIX_UPDATES, *TWO, "hydra.run.dir=run", **ALLOCATION)
    until((run / "checkpoints" / "checkpoint-2").exists)
    victim = rank(process, 1)
    number, pid = victim.environ()["RANK"], victim.pid
    victim.kill()
    _, err = process.communicate(timeout=A_MINUTE)
    assert process.returncode == 1, err
    told = rf"rank {number} of 2 on {socket.gethostname()} \(process {pid}\), during \w+, was ended by SIGKILL; go on "
    assert re.fullmatch(rf"error: {told}with --resume", err.splitlines()[-1])
    assert record(run)["error"] == f"RunError: {err.splitlines()[-1].removeprefix('error: ')}"


@pytest.mark.slow
@pytest.mark.parametrize("node", [0, 1])
def test_an_agent_that_is_killed_is_named(tmp_path: Path, six_updates_by_one: Path, node: int) -> None:
    """Its ranks ask all to end, so that what is done is saved."""
    run = tmp_path / "run"
    process = started(tmp_path, *SIX_UPDATES, *TWO, "hydra.run.dir=run", **ALLOCATION)
    until((run / "checkpoints" / "checkpoint-1").exists)
    victim = agent(process, node)
    victim.kill()
    _, err = process.communicate(timeout=A_MINUTE)
    assert process.returncode == 1, err
    told = f"the agent of node {node} (process {victim.pid} on localhost) is gone; go on with --resume"
    assert err.splitlines()[-1] == f"error: {told}"
    last = f"checkpoint-{updates(run)[-1]}"
    assert far_apart(run / "checkpoints" / last, six_updates_by_one / "checkpoints" / last) < CLOSE
    if node == 1:
        went_on(tmp_path, six_updates_by_one)


@pytest.mark.slow
def test_all_end_when_the_first_process_is_killed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started(tmp_path, *SIX_UPDATES, *TWO, "max_updates=500", "hydra.run.dir=run", **ALLOCATION)
    until((run / "checkpoints" / "checkpoint-1").exists)
    others = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    _, alive = psutil.wait_procs(others, timeout=A_MINUTE)
    assert not alive
    until(lambda: record(run)["status"] == "interrupted")
    [left] = (run / ".ranks").glob("start-*")  # what the next start removes
    go_on = started(tmp_path, "--resume", "run", "parallel.processes=1", "parallel.nodes=2", **ALLOCATION)
    until(lambda: not left.exists() and len(list((run / ".ranks").glob("start-*/node-*.json"))) == 2)
    assert len(list((run / ".ranks").glob("start-*"))) == 1
    go_on.send_signal(signal.SIGINT)
    assert go_on.wait(A_MINUTE) == 130
    assert not (run / ".ranks").exists()


@pytest.mark.slow
def test_a_rank_s_own_error_is_the_run_s(tmp_path: Path) -> None:
    games, run = tmp_path / "games", tmp_path / "run"
    write_game(games)
    more = ("env=stuck", "eval.episodes=4", "hydra.run.dir=run", "--config-dir", "games")
    process = started(tmp_path, *SIX_UPDATES, *TWO, *more, **ALLOCATION)
    until((run / "checkpoints" / "checkpoint-2").exists)
    (games / "broken").touch()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert "the ice broke" in last
    assert last.endswith(f"(rank 1 of 2 on {socket.gethostname()}, during rollout)"), last
    assert last.removeprefix("error: ") in str(record(run)["error"])


@pytest.mark.slow
@pytest.mark.parametrize("by", ["srun", "torchrun"])
def test_a_machine_that_hangs_is_named(tmp_path: Path, by: str) -> None:
    games, run = tmp_path / "games", tmp_path / "run"
    write_game(games)
    more = ("env=stuck", "eval.episodes=4", "parallel.patience=15", "hydra.run.dir=run", "--config-dir", "games")
    if by == "srun":
        at_work = [started(tmp_path, *SIX_UPDATES, *TWO, *more, **ALLOCATION)]
    else:
        _, err = started(tmp_path, *SIX_UPDATES, *TWO, *more, "--prepare").communicate(timeout=PATIENCE)
        at_work = machines([*torchrun_line(err), "stuck_lake"], 29877, PYTHONPATH=str(games))
    until((run / "checkpoints" / "checkpoint-2").exists)
    (games / "stuck").touch()
    said = [one.communicate(timeout=2 * A_MINUTE)[1] for one in at_work]
    told = f"the others wait for rank 1 on {socket.gethostname()} (process "
    assert any(told in err and "during rollout" in err for err in said), said
    assert all(one.returncode == 1 for one in at_work)
    assert record(run)["status"] == "failed"
    assert told in str(record(run)["error"])


def asked(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str, **environment: str) -> int:
    """The exit code of a run that begins in this process, and ends before any other is started."""
    monkeypatch.chdir(folder)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return typed(monkeypatch, "train", *SIX_UPDATES, *arguments, "hydra.run.dir=run")


def test_an_srun_that_starts_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert asked(monkeypatch, tmp_path, *TWO, SRUN_FAILS="yes", **ALLOCATION) == 1
    assert capfd.readouterr().err.splitlines()[-2:] == [
        "srun: error: Unable to create step",
        "error: srun ended with exit code 1 before it started anything; what it said stands above",
    ]
    assert record(tmp_path / "run")["status"] == "failed"


@pytest.mark.parametrize(
    ("overrides", "environment", "told"),
    [
        (TWO, {}, "parallel.nodes=2: this is no SLURM allocation (no SLURM_JOB_ID); queue it with msgrpo sweep"),
        ((*TWO, "parallel.nodes=4"), ALLOCATION, "parallel.nodes=4: this SLURM allocation has 2; ask for more"),
        (TWO, {"SLURM_JOB_ID": "7"}, "parallel.nodes=2: there is no srun on the PATH"),
        (("parallel.nodes=2",), ALLOCATION, "nodes=2: name=none is one process; give parallel=ddp"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overrides: tuple[str, ...],
    environment: dict[str, str],
    told: str,
) -> None:
    assert asked(monkeypatch, tmp_path, *overrides, **environment) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_prepared_run_is_started_by_torchrun_on_every_machine(tmp_path: Path, six_updates_by_one: Path) -> None:
    prepared = started(tmp_path, *SIX_UPDATES, *TWO, "hydra.run.dir=run", "--prepare")
    out, err = prepared.communicate(timeout=PATIENCE)
    run = Path(out.strip())
    assert run == tmp_path / "run"
    assert record(run)["status"] == "interrupted"
    line = torchrun_line(err)
    assert line[0] == "torchrun" and "--nnodes=2" in line and "--nproc-per-node=1" in line

    first = machines(line, 29871)
    until((run / "checkpoints" / "checkpoint-2").exists)
    first[1].send_signal(signal.SIGUSR1)
    for machine in first:
        machine.communicate(timeout=A_MINUTE)
    assert record(run)["status"] == "interrupted"
    said = [machine.communicate(timeout=PATIENCE) for machine in machines(line, 29872)]
    assert record(run)["status"] == "done", said
    assert (run / "episodes.jsonl").read_bytes() == (six_updates_by_one / "episodes.jsonl").read_bytes()
    assert "".join(out for out, _ in said) == f"{run}\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_queued_job_saves_is_queued_again_and_goes_on(tmp_path: Path, six_updates_by_one: Path, number: int) -> None:
    """SIGUSR2 is what submitit has SLURM send ahead of the limit; after SIGTERM alone (preemption) SLURM queues again
    by itself, here `sweep --resume` goes on."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    launcher = ("hydra/launcher=slurm", "hydra.launcher.max_num_timeout=3", "hydra.sweep.dir=all")
    arguments = ("sweep", *SIX_UPDATES, *TWO, "trainer.use_cpu=true", "seed=0", *launcher)
    known = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": ALLOCATION["PATH"], "SLURM_FAKE": str(tmp_path)}
    sweep = subprocess.Popen(
        [sys.executable, "-m", "msgrpo_cli", *arguments], cwd=tmp_path, env=known, stderr=subprocess.PIPE, text=True
    )
    until(lambda: list(tmp_path.glob("all/*/checkpoints/checkpoint-2")))
    run = next(tmp_path.glob("all/*/run.json")).parent
    for process in psutil.process_iter(["cmdline", "environ"]):  # all tasks of all steps of the job
        words, variables = process.info["cmdline"] or [], process.info["environ"] or {}
        task = "submitit.core._submit" in words or "msgrpo_cli.launch.nodes" in words
        if task and variables.get("SLURM_FAKE") == str(tmp_path) and words[0] != "/bin/sh":
            process.send_signal(number)
    if number == signal.SIGTERM:
        _, err = sweep.communicate(timeout=PATIENCE)
        assert sweep.returncode == 1, err
        assert record(run)["status"] == "interrupted"
        again = [sys.executable, "-m", "msgrpo_cli", "sweep", "--resume", "all"]
        done = subprocess.run(again, cwd=tmp_path, env=known, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
    else:
        _, err = sweep.communicate(timeout=PATIENCE)
        assert sweep.returncode == 0, err
        log = (tmp_path / "log").read_text().splitlines()
        assert [line.split()[0] for line in log] == ["requeued", "ended", "ended"]
    assert record(run)["status"] == "done"
    assert updates(run) == [1, 2, 3, 4, 5, 6]
    assert (run / "episodes.jsonl").read_bytes() == (six_updates_by_one / "episodes.jsonl").read_bytes()
