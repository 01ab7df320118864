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
from msgrpo_cli.launch.doctor_trial import several_processes, training

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
    assert [check["name"] for check in said["checks"][-2:]] == ["training", "several processes"]
    learnt = r"success went from (0\.\d\d) to 0\.\d\d in 24"
    one, two = (re.search(learnt, check["detail"]) for check in said["checks"][-2:])
    assert one is not None
    assert two is not None
    assert one[1] == two[1], "the base plays alike; sums in another order are other weights after some updates"
    assert "2 processes" in said["checks"][-1]["detail"]
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


@pytest.mark.slow
def test_two_processes_that_cannot_talk(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch0")
    with pytest.raises(RuntimeError, match="nosuch0") as caught:
        several_processes(SHORT)
    assert caught.value.__notes__[-1].startswith("two processes do not train together here")
    assert left_in(temporary) == []


@pytest.mark.slow
def test_two_processes_that_do_not_learn(temporary: Path) -> None:
    with pytest.raises(RunError, match=r"2 processes: success went .* it did not learn") as caught:
        several_processes([*SHORT, "trainer.learning_rate=0"])
    assert not hasattr(caught.value, "__notes__")
    assert left_in(temporary) == []
