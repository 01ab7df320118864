"""The doctor's training: real runs; it passes where they learn, and says in which phase one fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.launch.doctor_trial import training

SHORT = ["max_updates=1", "save.every=1", "algo.groups_per_update=1", "algo.group_size=2", "eval.episodes=8"]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.slow
def test_the_whole_command_trains_learns_and_leaves_nothing(temporary: Path) -> None:
    folder = temporary / "here"
    folder.mkdir()
    found = subprocess.run(
        [sys.executable, "-m", "msgrpo_cli", "doctor", "--json"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
        timeout=600,
        check=False,
    )
    said = json.loads(found.stdout)
    assert (found.returncode, said["passed"]) == (0, True), said
    assert said["checks"][-1]["name"] == "training"
    assert re.match(r"tiny on frozenlake: success went from 0\.\d\d to 0\.\d\d in 24", said["checks"][-1]["detail"])
    assert left_in(temporary) == left_in(folder) == []


def left_in(folder: Path) -> list[Path]:
    return list(folder.glob("*msgrpo*"))


def test_a_run_that_does_not_learn(temporary: Path) -> None:
    with pytest.raises(RunError, match=r"it did not learn; a rise of 0\.15 is the least$"):
        training([*SHORT, "trainer.learning_rate=0"])
    assert left_in(temporary) == []


@pytest.mark.parametrize(
    ("override", "phase"),
    [
        ("model.path=./nothing", "loading"),
        ("rollout.max_prompt_tokens=5", "loading"),
        ("trainer.learning_rate=1e38", "update"),
    ],
)
def test_the_phase_that_fails_is_noted(override: str, phase: str, temporary: Path) -> None:
    with pytest.raises((UsageError, RunError, RuntimeError)) as caught:
        training([*SHORT, "max_updates=3", override])
    assert caught.value.__notes__ == [f"phase {phase}"], repr(caught.value)
    assert left_in(temporary) == []
