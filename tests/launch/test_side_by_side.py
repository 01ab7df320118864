"""Runs of several processes that are started in unusual places: side by side, and from a thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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


def outcome_of(run: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = run.communicate(timeout=600)
    assert run.returncode == 0, err
    outcome: dict[str, Any] = json.loads(out.splitlines()[-1])
    return outcome


@pytest.mark.slow
def test_two_runs_at_once_both_finish(tmp_path: Path) -> None:
    """Each has ports of its own."""
    commands = [["-m", "msgrpo_cli", "train", *TWO, f"hydra.run.dir={name}", "--json"] for name in ("one", "other")]
    one, other = [outcome_of(run) for run in [started(tmp_path, *command) for command in commands]]
    assert one["status"] == other["status"] == "done"
    assert (tmp_path / "one/episodes.jsonl").read_bytes() == (tmp_path / "other/episodes.jsonl").read_bytes()


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
