"""Several processes of one run, started, killed and asked to end as users and schedulers do it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from support.commands import run as msgrpo

pytest.importorskip("torch")  # here, for it is other processes that import it

OVERRIDES = (
    "experiment=smoke",
    "max_updates=6",
    "algo.groups_per_update=4",
    "eval.every=0",
    "save.every=1",
    "save.keep_last=9",
)
TWO = ("parallel=ddp", "parallel.processes=2")
PATIENCE = 240.0
A_MINUTE = 60.0
"""In which a run of several processes ends that one of them was lost to; what is waited for, and not a measurement."""


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "msgrpo_cli", "train", *arguments]
    known = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.Popen(command, cwd=folder, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(there: Callable[[], object], patience: float = PATIENCE) -> None:
    began = time.monotonic()
    while not there():
        if time.monotonic() - began > patience:
            raise TimeoutError
        time.sleep(0.05)


def rank(parent: subprocess.Popen[str], number: int) -> psutil.Process:
    return next(child for child in psutil.Process(parent.pid).children() if child.environ().get("RANK") == str(number))


def record(run: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / "run.json").read_text())
    return found


def updates(run: Path) -> list[int]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["update"] for row in rows if row["kind"] == "train"]


@pytest.fixture(scope="module")
def by_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, by one process, without an interruption."""
    folder = tmp_path_factory.mktemp("by-one")
    assert start(folder, *OVERRIDES, "hydra.run.dir=run").wait(PATIENCE) == 0
    return folder / "run"


@pytest.mark.slow
def test_a_rank_that_is_killed_is_named_and_the_run_goes_on(tmp_path: Path, by_one: Path) -> None:
    run = tmp_path / "run"
    process = start(tmp_path, *OVERRIDES, *TWO, "hydra.run.dir=run")
    until((run / "checkpoints" / "checkpoint-2").exists)
    rank(process, 1).kill()
    out, err = process.communicate(timeout=A_MINUTE)
    assert process.returncode == 1, err
    assert out == ""
    assert "rank 1 (process " in err.splitlines()[-1]
    assert err.splitlines()[-1].endswith("was ended by SIGKILL; go on with --resume")
    assert "Traceback" not in err
    assert record(run)["status"] == "failed"
    assert "was ended by SIGKILL" in str(record(run)["error"])
    go_on = start(tmp_path, "--resume", "run")
    _, err = go_on.communicate(timeout=PATIENCE)
    assert go_on.returncode == 0, err
    assert record(run)["status"] == "done"
    assert updates(run) == [1, 2, 3, 4, 5, 6]
    assert (run / "episodes.jsonl").read_bytes() == (by_one / "episodes.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["the parent", "rank 1"])
def test_all_leave_together_whoever_is_asked(tmp_path: Path, by_one: Path, asked: str) -> None:
    run = tmp_path / "run"
    process = start(tmp_path, *OVERRIDES, *TWO, "hydra.run.dir=run")
    until((run / "checkpoints" / "checkpoint-1").exists)
    whom = psutil.Process(process.pid) if asked == "the parent" else rank(process, int(asked[-1]))
    whom.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=A_MINUTE)
    assert process.returncode == 143, err
    assert record(run)["status"] == "interrupted"
    assert f"go on with: msgrpo train --resume {run}" in err
    last = updates(run)[-1]
    assert (run / "checkpoints" / f"checkpoint-{last}").exists()
    go_on = start(tmp_path, "--resume", "run", "parallel.processes=1")
    _, err = go_on.communicate(timeout=PATIENCE)
    assert go_on.returncode == 0, err
    assert (run / "episodes.jsonl").read_bytes() == (by_one / "episodes.jsonl").read_bytes()


@pytest.mark.slow
def test_ranks_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(tmp_path, *OVERRIDES, *TWO, "max_updates=500", "hydra.run.dir=run")
    until((run / "checkpoints" / "checkpoint-1").exists)
    ranks = psutil.Process(process.pid).children()
    process.kill()
    _, alive = psutil.wait_procs(ranks, timeout=A_MINUTE)
    assert not alive


@pytest.mark.slow
def test_a_model_that_cannot_be_read_is_refused_once(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "model.safetensors").write_bytes(b"no weights")
    process = start(tmp_path, *OVERRIDES, *TWO, f"model.path={model}", "model.init=pretrained", "hydra.run.dir=run")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, err
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1


@pytest.mark.parametrize(
    ("overrides", "environment", "told"),
    [
        (("parallel=ddp",), {}, "parallel=ddp: there is no GPU here to count; say how many: parallel.processes=2"),
        (("parallel.processes=2",), {}, "processes=2: name=none is one process; give parallel=ddp"),
        (("parallel=fsdp",), {}, "parallel"),
        ((*TWO, "engine=vllm_server"), {}, "engine=vllm_server"),
        ((), {"WORLD_SIZE": "4"}, "msgrpo train parallel=ddp parallel.processes=4"),
        (("engine=ddp",), {}, "engine"),
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
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert msgrpo(monkeypatch, "train", *OVERRIDES, *overrides, "hydra.run.dir=run") == 2
    said = capsys.readouterr()
    assert told in said.err
    assert (said.out, "Traceback" in said.err) == ("", False)
    assert not (tmp_path / "run").exists()
