"""`from msgrpo_cli import train, evaluate` in a program that goes on afterwards: names, results, errors, leftovers."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from msgrpo_cli import RunError, UsageError, evaluate, train

SMALL = ("experiment=smoke", "max_updates=1", "algo.groups_per_update=2", "algo.group_size=4", "eval.episodes=4")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_names_are_light() -> None:
    heavy = ("torch", "transformers", "trl", "hydra", "typer")
    code = f"import sys; from msgrpo_cli import *; print([name for name in {heavy} if name in sys.modules], train)"
    assert python(code).startswith("[] <function train")


@pytest.mark.slow
@pytest.mark.parametrize("first", ["from msgrpo_cli import train, evaluate", "pass"])
def test_modules_of_the_same_names_do_not_take_their_places(first: str) -> None:
    pytest.importorskip("torch")
    code = (
        f"{first}\n"
        "from msgrpo_cli.training.train import train_job\n"
        "from msgrpo_cli.evaluation.evaluate import evaluate_subjects\n"
        "import msgrpo_cli, pickle\n"
        "from msgrpo_cli import train, evaluate\n"
        "assert pickle.loads(pickle.dumps(train_job)) is train_job\n"
        "assert train_job.__module__ == 'msgrpo_cli.training.train'\n"
        "for function in (train, evaluate, msgrpo_cli.train, msgrpo_cli.evaluate):\n"
        "    print(function.__module__)\n"
    )
    assert python(code).split() == ["msgrpo_cli.notebook"] * 4


@pytest.mark.slow
def test_twice_in_one_process_with_a_hydra_and_a_log_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    monkeypatch.chdir(tmp_path)
    own = logging.StreamHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [own])
    monkeypatch.setattr(logging.getLogger(), "level", logging.ERROR)
    with hydra.initialize(version_base="1.3"):
        first = train(*SMALL)
        results: list[dict[str, Any]] = []
        elsewhere = threading.Thread(target=lambda: results.append(train(*SMALL, "seed=1")))
        elsewhere.start()  # a thread that may not set signal handlers
        elsewhere.join()
        [second] = results
        assert GlobalHydra.instance().is_initialized()
        assert logging.getLogger().handlers == [own] and logging.getLogger().level == logging.ERROR
    assert set(first) == {
        *("run", "status", "updates", "checkpoint", "best_checkpoint"),
        *("success_rate", "mean_total_reward", "wall_seconds"),
    }
    assert first["run"] != second["run"] and first["status"] == second["status"] == "done"
    record = json.loads((Path(first["run"]) / "run.json").read_text())
    assert record["command"] == ["msgrpo", "train", *SMALL]
    [score] = evaluate(first["run"], "eval.episodes=4")
    assert score["mean_total_reward"] == first["mean_total_reward"]
    longer = train("max_updates=2", resume=first["run"])
    assert longer["updates"] == 2
    shown = capsys.readouterr()
    assert shown.out == "", "results are returned; what a person sees goes to stderr"
    assert "after update 1, validation" in shown.err and "optimal" in shown.err


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train("env=nowhere"), "no 'nowhere' in config group 'env'"),
        (lambda: train("frozenlake"), "frozenlake: not an override KEY=VALUE"),
        (lambda: train("seed=1,2"), "use msgrpo sweep"),
        (lambda: train(resume="nowhere"), "nowhere: no such run"),
        (lambda: train(resume="last", from_="last"), "resume and from_: only one of them"),
        (lambda: train(config_dirs="nowhere"), "no such config folder"),
        (lambda: evaluate("nowhere/at/all"), "no such run"),
        (lambda: evaluate(all_checkpoints=True), "needs a run"),
        (lambda: evaluate(None, "policy=api"), "no server has model=tiny"),
    ],
)
def test_mistakes_are_usage_errors_and_leave_nothing(
    call: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        call()
    assert list(tmp_path.iterdir()) == []


def test_a_hub_out_of_reach_is_a_run_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="HF_HUB_OFFLINE"):
        evaluate(None, "model=any", "model.path=someone/model")


@pytest.mark.slow
def test_an_interrupted_kernel_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    code = (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where a shell says so
        "from msgrpo_cli import train\n"
        f"try:\n    train(*{SMALL!r}, 'max_updates=1000000', 'hydra.run.dir=run')\n"
        "except KeyboardInterrupt:\n    print('interrupted', flush=True)\n"
        "print(train('max_updates=1000000', 'max_hours=0.002', resume='run')['status'])\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as kernel:
        metrics, until = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 600
        while not (metrics.exists() and metrics.read_text().count('"train"') > 3):
            assert time.monotonic() < until and kernel.poll() is None
            time.sleep(0.05)
        os.kill(kernel.pid, signal.SIGINT)
        assert kernel.stdout is not None and kernel.stdout.readline() == "interrupted\n"
        assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
        kernel.wait(600)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "interrupted", "max_hours ended the second part"
