"""Several processes of one run, started, killed and asked to end as users and schedulers do it."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from support.runs_at_work import A_MINUTE, PATIENCE, SIX_UPDATES, record, started, until, updates

pytest.importorskip("torch")  # here, for it is other processes that import it

TWO = ("parallel=ddp", "parallel.processes=2")


def rank(parent: subprocess.Popen[str], number: int) -> psutil.Process:
    return next(child for child in psutil.Process(parent.pid).children() if child.environ().get("RANK") == str(number))


@pytest.fixture(scope="module")
def by_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, by one process, without an interruption."""
    folder = tmp_path_factory.mktemp("by-one")
    assert started(folder, *SIX_UPDATES, "hydra.run.dir=run").wait(PATIENCE) == 0
    return folder / "run"


@pytest.mark.slow
def test_a_rank_that_is_killed_is_named_and_the_run_goes_on(tmp_path: Path, by_one: Path) -> None:
    run = tmp_path / "run"
    process = started(tmp_path, *SIX_UPDATES, *TWO, "hydra.run.dir=run")
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
    go_on = started(tmp_path, "--resume", "run")
    _, err = go_on.communicate(timeout=PATIENCE)
    assert go_on.returncode == 0, err
    assert record(run)["status"] == "done"
    assert updates(run) == [1, 2, 3, 4, 5, 6]
    assert (run / "episodes.jsonl").read_bytes() == (by_one / "episodes.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["the parent", "rank 1"])
def test_all_leave_together_whoever_is_asked(tmp_path: Path, by_one: Path, asked: str) -> None:
    run = tmp_path / "run"
    process = started(tmp_path, *SIX_UPDATES, *TWO, "hydra.run.dir=run")
    until((run / "checkpoints" / "checkpoint-1").exists)
    whom = psutil.Process(process.pid) if asked == "the parent" else rank(process, int(asked[-1]))
    whom.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=A_MINUTE)
    assert process.returncode == 143, err
    assert record(run)["status"] == "interrupted"
    assert f"go on with: msgrpo train --resume {run}" in err
    last = updates(run)[-1]
    assert (run / "checkpoints" / f"checkpoint-{last}").exists()
    go_on = started(tmp_path, "--resume", "run", "parallel.processes=1")
    _, err = go_on.communicate(timeout=PATIENCE)
    assert go_on.returncode == 0, err
    assert (run / "episodes.jsonl").read_bytes() == (by_one / "episodes.jsonl").read_bytes()


@pytest.mark.slow
def test_ranks_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started(tmp_path, *SIX_UPDATES, *TWO, "max_updates=500", "hydra.run.dir=run")
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
    process = started(tmp_path, *SIX_UPDATES, *TWO, f"model.path={model}", "model.init=pretrained", "hydra.run.dir=run")
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
    tmp_path: Path, overrides: tuple[str, ...], environment: dict[str, str], told: str
) -> None:
    process = started(tmp_path, *SIX_UPDATES, *overrides, "hydra.run.dir=run", **environment)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, err
    assert told in err
    assert not (tmp_path / "run").exists()
