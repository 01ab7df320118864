"""Several processes of one run, started, killed and asked to end as users and schedulers do it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.launch.engine_checks import check_machine
from msgrpo_cli.launch.ranks import processes
from support.commands import run as msgrpo
from support.runs_at_work import (
    A_MINUTE,
    CLOSE,
    PATIENCE,
    SIX_UPDATES,
    far_apart,
    losses,
    record,
    started,
    until,
    updates,
)
from support.stuck_game import write_game

pytest.importorskip("torch")  # here, for it is other processes that import it

TWO = ("parallel=ddp", "parallel.processes=2")


def rank(parent: subprocess.Popen[str], number: int) -> psutil.Process:
    return next(child for child in psutil.Process(parent.pid).children() if child.environ().get("RANK") == str(number))


@pytest.mark.slow
def test_a_rank_that_is_killed_is_named_and_the_run_goes_on(tmp_path: Path, six_updates_by_one: Path) -> None:
    run = tmp_path / "run"
    process = started(tmp_path, *SIX_UPDATES, *TWO, "hydra.run.dir=run")
    until((run / "checkpoints" / "checkpoint-2").exists)
    rank(process, 1).kill()
    out, err = process.communicate(timeout=A_MINUTE)
    assert process.returncode == 1, err
    assert out == ""
    last = err.splitlines()[-1]
    assert f"rank 1 of 2 on {socket.gethostname()} (process " in last
    assert re.search(r", during \w+, was ended by SIGKILL; go on with --resume$", last)
    assert "Traceback" not in err
    assert record(run)["status"] == "failed"
    assert "was ended by SIGKILL" in str(record(run)["error"])
    go_on = started(tmp_path, "--resume", "run")
    _, err = go_on.communicate(timeout=PATIENCE)
    assert go_on.returncode == 0, err
    assert record(run)["status"] == "done"
    assert updates(run) == [1, 2, 3, 4, 5, 6]
    assert (run / "episodes.jsonl").read_bytes() == (six_updates_by_one / "episodes.jsonl").read_bytes()
    assert losses(run) == pytest.approx(losses(six_updates_by_one), rel=2e-4, abs=1e-6)


@pytest.mark.slow
def test_a_slow_rank_is_waited_for_and_one_that_hangs_is_named(tmp_path: Path) -> None:
    """`patience` is shorter than the slow update takes altogether, and far longer than a round of it."""
    games, run = tmp_path / "games", tmp_path / "run"
    write_game(games)
    (games / "slow").touch()
    more = ("env=stuck", "eval.episodes=4", "parallel.patience=15")
    process = started(tmp_path, *SIX_UPDATES, *TWO, *more, "hydra.run.dir=run", "--config-dir", "games")
    until((run / "checkpoints" / "checkpoint-2").exists)
    (games / "slow").unlink()
    (games / "stuck").touch()
    _, err = process.communicate(timeout=A_MINUTE)
    assert process.returncode == 1, err
    last = err.splitlines()[-1]
    assert "no process of the run has made any progress for 15 s (parallel.patience)" in last
    assert re.search(rf"the others wait for rank 1 on {socket.gethostname()} \(process \d+\) during rollout, ", last)
    assert re.search(r", at core\.py:\d+ \(step\) within threading\.py:\d+ \(wait\); go on with --resume$", last)
    assert "Traceback" not in err
    assert record(run)["status"] == "failed"
    assert "the others wait for rank 1" in str(record(run)["error"])


OTHER_TRL = """
import os, sys
if os.environ.get("RANK") == "1":
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "of-rank-1"))
"""


@pytest.mark.slow
def test_ranks_with_other_versions_are_refused(tmp_path: Path) -> None:
    """Rank 1 finds another TRL installed than rank 0, as on a machine that was set up at another time."""
    metadata = tmp_path / "planted" / "of-rank-1" / "trl-1.16.99.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: trl\nVersion: 1.16.99\n")
    (tmp_path / "planted" / "sitecustomize.py").write_text(OTHER_TRL)
    where = os.pathsep.join([str(tmp_path / "planted"), os.environ.get("PYTHONPATH", "")])
    process = started(tmp_path, *SIX_UPDATES, *TWO, "hydra.run.dir=run", PYTHONPATH=where)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, err
    last, host = err.splitlines()[-1], socket.gethostname()
    assert f"rank 1 of 2 on {host} has another program than rank 0 of 2 on {host}: trl 1.16.99, not " in last
    assert "; install the same on all" in last
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_port_that_others_use_is_not_the_run_s(tmp_path: Path) -> None:
    """Ranks meet at a free port, whatever port the surroundings name."""
    with socket.create_server(("localhost", 0)) as taken:
        port = str(taken.getsockname()[1])
        more = ("max_updates=1", "hydra.run.dir=run")
        process = started(tmp_path, *SIX_UPDATES, *TWO, *more, MASTER_PORT=port, MASTER_ADDR="localhost")
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_machine(compose("train", [*SIX_UPDATES, *TWO]))
    three = compose("train", [*SIX_UPDATES, "parallel=fsdp", "parallel.processes=3"])
    with pytest.raises(UsageError, match=r"parallel\.processes=3: a machine has 2 GPUs, and one process one of them"):
        check_machine(three)
    assert processes(compose("train", [*SIX_UPDATES, "parallel=ddp"])) == 2


def test_quantized_weights_are_not_shared_out() -> None:
    """Asked of a machine that could quantize; without a GPU it is refused before."""
    qlora = ("lora.enabled=true", "lora.quantization=4bit")
    with pytest.raises(UsageError, match=r"lora\.quantization=4bit: parallel=fsdp shares out .*; use parallel=ddp"):
        check_machine(compose("train", [*SIX_UPDATES, "parallel=fsdp", "parallel.processes=2", *qlora]))
    check_machine(compose("train", [*SIX_UPDATES, *TWO, *qlora]))


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["the parent", "rank 1"])
def test_all_leave_together_whoever_is_asked(tmp_path: Path, six_updates_by_one: Path, asked: str) -> None:
    run = tmp_path / "run"
    process = started(tmp_path, *SIX_UPDATES, *TWO, "hydra.run.dir=run")
    until((run / "checkpoints" / "checkpoint-1").exists)
    whom = psutil.Process(process.pid) if asked == "the parent" else rank(process, int(asked[-1]))
    whom.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=A_MINUTE)
    assert process.returncode == 143, err
    assert "parallel=ddp: 2 processes train together" in err
    assert record(run)["status"] == "interrupted"
    assert f"go on with: msgrpo train --resume {run}" in err
    last = f"checkpoint-{updates(run)[-1]}"
    assert far_apart(run / "checkpoints" / last, six_updates_by_one / "checkpoints" / last) < CLOSE
    if asked == "rank 1":  # from such a checkpoint the other would go on alike
        return
    go_on = started(tmp_path, "--resume", "run", "parallel.processes=1")
    _, err = go_on.communicate(timeout=PATIENCE)
    assert go_on.returncode == 0, err
    assert (run / "episodes.jsonl").read_bytes() == (six_updates_by_one / "episodes.jsonl").read_bytes()


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
        ((*TWO, "parallel.patience=0"), {}, "parallel.patience"),
        (("parallel.patience=60",), {}, "parallel.patience"),
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
    assert msgrpo(monkeypatch, "train", *SIX_UPDATES, *overrides, "hydra.run.dir=run") == 2
    said = capsys.readouterr()
    assert told in said.err
    assert (said.out, "Traceback" in said.err) == ("", False)
    assert not (tmp_path / "run").exists()
