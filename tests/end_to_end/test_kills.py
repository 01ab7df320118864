"""Three kills of a real process, and a request to end; `make kill-test` does a hundred kills."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from support.kills import OVERRIDES, chain, differences, start, straight


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    return straight(tmp_path_factory.mktemp("uninterrupted"))


@pytest.mark.slow
def test_a_run_killed_at_three_random_moments_equals_the_uninterrupted_one(
    tmp_path: Path, uninterrupted: tuple[Path, float]
) -> None:
    reference, duration = uninterrupted
    ended = chain(7, tmp_path, reference, duration, kills=3)
    assert len(ended.kills) == 3 and ended.differences == (), ended


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_asked_to_end_saves_what_it_has_and_goes_on_the_same(
    tmp_path: Path, uninterrupted: tuple[Path, float], number: int, code: int
) -> None:
    reference, _ = uninterrupted
    run = tmp_path / "asked"
    process = start(*OVERRIDES, "hydra.run.dir=asked", folder=tmp_path)
    while not (run / "metrics.jsonl").exists() or '"train"' not in (run / "metrics.jsonl").read_text():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(600) == code
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    assert any((run / "checkpoints").glob("checkpoint-*"))
    assert start("--resume", "asked", folder=tmp_path).wait(600) == 0
    assert list(differences(run, reference)) == []
