"""The doctor's training: real runs; it passes where they learn, and says in which phase one fails."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from msgrpo_cli.doctor_training import training
from msgrpo_cli.errors import RunError, UsageError

SHORT = ["max_updates=1", "save.every=1", "algo.groups_per_update=1", "algo.group_size=2", "eval.episodes=8"]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.slow
def test_it_learns_and_leaves_nothing(temporary: Path) -> None:
    found = training()
    assert found.startswith("tiny on frozenlake: success went from 0.")
    assert list(temporary.iterdir()) == []


def test_a_run_that_does_not_learn(temporary: Path) -> None:
    with pytest.raises(RunError, match=r"it did not learn; a rise of 0\.15 is the least$"):
        training([*SHORT, "trainer.learning_rate=0"])
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "phase"),
    [
        ("model.path=./nothing", "loading"),
        ("rollout.max_prompt_tokens=5", "evaluation"),
        ("trainer.learning_rate=1e38", "update"),
    ],
)
def test_the_phase_that_fails_is_noted(override: str, phase: str, temporary: Path) -> None:
    with pytest.raises((UsageError, RunError)) as caught:
        training([*SHORT, "max_updates=3", override])
    assert caught.value.__notes__ == [f"phase {phase}"], repr(caught.value)
    assert list(temporary.iterdir()) == []
