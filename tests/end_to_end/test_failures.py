"""What a run says when it fails: numbers that are not finite, memory, disk, a dead child. Real causes throughout."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from msgrpo_cli.common.files import whole_directory, write_json
from msgrpo_cli.common.signals import heeding, safe_point
from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import NotFinite, RunError
from msgrpo_cli.runs.checkpoint import checkpoints, damage
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.training.failures import explained
from msgrpo_cli.training.supervision import Supervision
from msgrpo_cli.training.train import train_job
from msgrpo_cli.training.watchdog import Patience, Watchdog
from support.parts import played_update, small_model, trainer_for, with_advantages
from support.small_run import SMALL

LIMITS = {"rollout": ("rollout.max_live_episodes", 128), "update": ("trainer.per_device_train_batch_size", 300)}


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_changed(tmp_path: Path) -> None:
    model, tokenizer = small_model()

    def _spoiled(update: int):  # type: ignore[no-untyped-def]
        played = played_update(model, tokenizer, update)
        if update == 2:
            with torch.no_grad():
                model.lm_head.weight[5, 5] = torch.nan
            spoiled.update({name: value.clone() for name, value in model.state_dict().items()})
        return played

    trainer = trainer_for(tmp_path, model, tokenizer, _spoiled, max_updates=3)

    spoiled: dict[str, torch.Tensor] = {}
    with pytest.raises(NotFinite, match="update 2: loss nan or gradient norm nan is not finite; the weights were not"):
        trainer.train()
    for name, value in model.state_dict().items():
        assert torch.equal(value.nan_to_num(7.0), spoiled[name].nan_to_num(7.0)), name
    assert trainer.update == 1


def test_an_infinite_gradient_of_a_run_goes_to_failure_json(tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = compose("train", [*SMALL, "trainer.entropy_coef=1e38", "trainer.max_grad_norm=0", "eval.every=0"])
    with pytest.raises(RunError, match=r"update 1: loss .* is not finite; the weights were not changed; there is no"):
        train_job(config, run, command=["test"], overrides=[])
    failure = json.loads((run / "failure.json").read_text())
    assert failure["update"] == 1 and "not finite" in failure["error"]
    row = failure["rows"][0]
    assert row["completion"].startswith("<action>") and len(row["completion_ids"]) == len(row["logprobs"])
    assert json.loads((run / "run.json").read_text())["status"] == "failed"
    assert checkpoints(Run(run)) == []


def test_weights_that_are_not_finite_are_told_as_that_and_not_as_stale(tmp_path: Path) -> None:
    model, tokenizer = small_model()
    played = played_update(model, tokenizer)
    with torch.no_grad():
        model.lm_head.weight[5, 5] = torch.nan
    bounds = {"max_logprob_gap": 1e-3, "mean_logprob_gap": 1e-4}
    trainer = trainer_for(tmp_path, model, tokenizer, lambda update: played, max_updates=1, **bounds)
    with pytest.raises(NotFinite, match="update 1: loss nan"):
        trainer.train()


def test_in_fp16_a_gradient_that_is_not_finite_is_the_scaler_s_business_and_a_loss_is_not(tmp_path: Path) -> None:
    model, tokenizer = small_model()
    played = with_advantages(played_update(model, tokenizer), [1e30, -1e30])

    def trained() -> float:
        trainer = trainer_for(tmp_path, model, tokenizer, lambda update: played, max_updates=1)
        trainer.args.fp16 = True  # here without a scaler, which takes no step for such a gradient
        trainer.train()
        return float(trainer.update_metrics()["grad_norm"])

    assert trained() == math.inf
    with torch.no_grad():
        model.lm_head.weight[5, 5] = torch.nan
    with pytest.raises(NotFinite, match="update 1: loss nan"):
        trained()


def test_the_rows_that_are_told_are_those_of_the_optimizer_step_that_failed(tmp_path: Path) -> None:
    model, tokenizer = small_model()
    played = played_update(model, tokenizer)
    settings = {"optimizer_steps": 2, "learning_rate": 1e30, "max_updates": 1}
    trainer = trainer_for(tmp_path, model, tokenizer, lambda update: played, **settings)
    with pytest.raises(NotFinite) as caught:
        trainer.train()
    first, second = trainer._rows_of_parts
    assert caught.value.rows == second != first


def test_weights_that_are_not_finite_are_told_when_they_play() -> None:
    model, tokenizer = small_model()
    with torch.no_grad():
        model.lm_head.weight[3, 3] = torch.nan
    with pytest.raises(NotFinite, match=r"log-probabilities at the decision \(0, 1, 0, 0, 0\) are not finite"):
        played_update(model, tokenizer)


@pytest.mark.parametrize(
    ("checkpoint", "remedy"),
    [
        ("checkpoint-6", "checkpoint-6 is good: start from it with --from and a lower trainer.learning_rate"),
        (None, "there is no checkpoint yet: start anew with a lower trainer.learning_rate"),
    ],
)
def test_what_is_not_finite_names_the_last_good_checkpoint(checkpoint: str | None, remedy: str) -> None:
    found = explained(NotFinite("update 7: loss nan", {}), "update", {}, checkpoint)
    assert str(found) == f"update 7: loss nan; {remedy}"


def test_memory_that_runs_out_names_the_key_and_half_of_what_was_in_use(tmp_path: Path) -> None:
    """A real allocation beyond a real limit, in a process of its own."""
    code = """
import resource, sys, psutil, torch
from msgrpo_cli.training.failures import explained
limit = psutil.Process().memory_info().vms + 2**28
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    torch.ones(2**30)
except Exception as error:
    limits = {"rollout": ("rollout.max_live_episodes", 128), "update": ("trainer.per_device_train_batch_size", 300)}
    for phase in ("rollout", "update", "checkpoint"):
        print(explained(error, phase, limits, "checkpoint-20"))
    print(explained(error, "update", {"update": ("trainer.per_device_train_batch_size", 1)}, None))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    go_on = "go on with --resume from checkpoint-20"
    assert done.stdout.splitlines() == [
        f"out of memory during rollout: lower rollout.max_live_episodes to 64 (128 were in use); {go_on}",
        f"out of memory during update: lower trainer.per_device_train_batch_size to 150 (300 were in use); {go_on}",
        f"out of memory during checkpoint: lower trainer.per_device_train_batch_size to 150 (300 were in use); {go_on}",
        "out of memory during update: trainer.per_device_train_batch_size cannot be lowered any more; choose a smaller "
        "model, lora.enabled=true or shorter answers; there is no checkpoint yet",
    ]


def test_memory_that_python_itself_lacks_has_the_same_words() -> None:
    with pytest.raises(MemoryError) as caught:
        bytearray(2**62)
    assert str(explained(caught.value, "rollout", LIMITS, None)).startswith("out of memory during rollout: lower ")


@pytest.fixture
def short_files() -> Iterator[None]:
    """A real limit on the size of files, as a quota sets it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("short_files")
@pytest.mark.parametrize(
    ("save", "said"),
    [
        (torch.save, "the disk took no more ("),
        (save_file, "the disk took no more ("),
        (lambda tensors, file: file.write_bytes(tensors["a"].numpy()), "a file is larger than allowed ("),
    ],
)
def test_a_file_that_cannot_be_written_is_told_whichever_library_writes_it(
    tmp_path: Path, save: Callable[[dict[str, torch.Tensor], Path], object], said: str
) -> None:
    with pytest.raises((RuntimeError, SafetensorError, OSError)) as caught:
        save({"a": torch.ones(2**20)}, tmp_path / "file")
    told = str(explained(caught.value, "checkpoint", LIMITS, "checkpoint-20"))
    assert told.startswith(said) and told.endswith(") during checkpoint; go on with --resume from checkpoint-20")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EIO, "the disk fails"),
    ],
)
def test_errors_of_the_disk_have_words(number: int, said: str) -> None:
    told = explained(OSError(number, os.strerror(number), "metrics.jsonl"), "update", LIMITS, "checkpoint-3")
    assert str(told) == f"{said} (metrics.jsonl) during update; go on with --resume from checkpoint-3"


def test_other_errors_speak_for_themselves() -> None:
    assert explained(ValueError("no"), "update", LIMITS, None) is None
    assert explained(RuntimeError("shape mismatch"), "update", LIMITS, None) is None


def with_checkpoints(folder: Path) -> Run:
    """A run of small fake files, with checkpoints of updates 3 and 20."""
    run = Run(folder / "run")
    run.update_record(status="running")
    for update in (3, 20):
        with whole_directory(run.checkpoints / f"checkpoint-{update}") as made:
            write_json(made / "msgrpo.json", {"schema": 1, "update": update, "files": {}, "score": None})
    return run


def test_what_was_being_written_makes_room_and_the_latest_checkpoint_is_named(tmp_path: Path) -> None:
    run = with_checkpoints(tmp_path)
    (run.checkpoints / ".partial").mkdir()
    supervision = Supervision(run, 30)
    said = "the disk is full .* during loading; go on with --resume from checkpoint-20"
    with pytest.raises(RunError, match=said) as caught, supervision:
        supervision.display.phase("loading")
        with supervision.explaining(lambda: LIMITS, str):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "optimizer.pt")
    assert caught.value.__notes__ == ["phase loading"]
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["checkpoint-20", "checkpoint-3"]


def test_after_a_run_nobody_watches() -> None:
    def watching() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "watchdog"]

    with Supervision(Run(Path("unused")), 1):
        assert watching()
    until = time.monotonic() + 120
    while watching() and time.monotonic() < until:
        time.sleep(0.05)
    assert not watching()


def test_a_second_signal_leaves_the_run_marked_as_interrupted(tmp_path: Path) -> None:
    run = with_checkpoints(tmp_path)
    Supervision(run, 1).last_words()
    record = run.record()
    assert (record["status"], record["error"]) == ("interrupted", "ended at once by a second signal")


def test_a_dead_child_is_what_the_next_safe_point_tells(tmp_path: Path) -> None:
    made = Supervision(with_checkpoints(tmp_path), 1)
    made._watchdog = Watchdog(made.display.say, made._end, made._end_now, Patience(tick=0.02, child=0.05, stuck=30.0))
    with made, heeding(None, made.last_words):
        child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
        with pytest.raises(RunError, match=f"child process {child.pid} .* died with exit code 7"):
            for _ in range(12_000):
                time.sleep(0.01)
                safe_point()
    child.wait()


STUCK = """
import subprocess, sys, time
from pathlib import Path
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.training.supervision import Supervision
from msgrpo_cli.training.watchdog import Patience, Watchdog

made = Supervision(Run(Path(sys.argv[1])), 1)
made._watchdog = Watchdog(made.display.say, made._end, made._end_now, Patience(tick=0.02, child=0.05, stuck=0.2))
with made:
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    time.sleep(600)
"""


def test_where_the_work_hangs_after_that_the_process_ends_as_failed(tmp_path: Path) -> None:
    run = with_checkpoints(tmp_path)
    done = subprocess.run([sys.executable, "-c", STUCK, str(run.path)], capture_output=True, text=True, timeout=300)
    said = "a child process died, and the run did not end by itself"
    assert (done.returncode, run.record()["status"], run.record()["error"]) == (1, "failed", said)
    assert said in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A real file system of 30 MB; where it cannot be mounted the test is skipped."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_the_run_with_the_last_checkpoint_whole(small_disk: Path) -> None:
    run = small_disk / "run"
    config = compose("train", [*SMALL, "max_updates=6", "save.keep_last=2", "eval.every=0"])

    size = 5_500_000  # one checkpoint
    (small_disk / "other people's").write_bytes(b"0" * (30 * 2**20 - 2 * size - size // 2))
    with pytest.raises(RunError, match=r"during checkpoint; go on with --resume from checkpoint-2"):
        train_job(config, run, command=["test"], overrides=[])
    whole = checkpoints(Run(run))
    assert [path.name for path in whole] == ["checkpoint-1", "checkpoint-2"]
    assert [damage(path, read="all") for path in whole] == [None, None]
    (small_disk / "other people's").unlink()
    train_job(config, run, command=["test"], overrides=[], resume=run)
    assert checkpoints(Run(run))[-1].name == "checkpoint-6"


CHILD = """
import subprocess, sys, time
import gymnasium
from msgrpo_cli.games.frozenlake import FrozenLake

class Engine(FrozenLake):
    def play(self, action):
        global child, moves
        moves = globals().get("moves", 0) + 1
        if moves == 300:  # before a run begins its game is tried for fewer; children from before it are not watched
            child = subprocess.Popen([sys.executable, "-c", "import time, sys; time.sleep(1); sys.exit(7)"])
        time.sleep(0.2 if moves > 300 else 0)
        return super().play(action)

gymnasium.register("test/Engine-v0", entry_point=Engine)
"""


@pytest.mark.slow
def test_a_dead_child_process_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "engine.py").write_text(CHILD)
    command = [sys.executable, "-m", "msgrpo_cli", "train", *SMALL, "env.id=engine:test/Engine-v0", "hydra.run.dir=run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 1, done.stderr
    assert "died with exit code 7" in done.stderr.splitlines()[-1]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed" and "exit code 7" in record["error"]
