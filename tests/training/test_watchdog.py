"""The watchdog with real threads and real child processes, and patience of tenths of a second."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from msgrpo_cli.training.watchdog import Patience, Watchdog

QUICK = Patience(least=0.2, still=0.3, tick=0.02, child=0.2, stuck=0.3)


unexpected: list[str] = []
nothing = unexpected.append


@pytest.fixture(autouse=True)
def _nothing_unexpected() -> Iterator[None]:
    unexpected.clear()
    yield
    assert unexpected == []


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def test_a_phase_of_ten_times_its_median_is_told_with_place_and_advice() -> None:
    said: list[str] = []
    with Watchdog(said.append, nothing, nothing, QUICK) as watchdog:
        for _ in range(3):
            watchdog.at("rollout", 0, 8)
            time.sleep(0.03)
            watchdog.at("update")
        watchdog.at("rollout", 3, 8)
        wait_for(lambda: said)
    assert said[0].startswith("warning: rollout has taken 0 s, ")
    assert "times its median of 0.0 s; it stands at 3 of 8, unchanged for" in said[0]
    assert "test_watchdog.py" in said[0] and "rollout.max_new_tokens" in said[0]


def test_a_usual_phase_is_not_told() -> None:
    said: list[str] = []
    with Watchdog(said.append, nothing, nothing, QUICK) as watchdog:
        for _ in range(5):
            watchdog.at("rollout", 0, 8)
            time.sleep(0.1)
            watchdog.at("update")
    assert said == []


def test_standing_still_is_told_where_no_median_is_known_and_progress_is_not() -> None:
    said: list[str] = []
    with Watchdog(said.append, nothing, nothing, QUICK) as watchdog:
        watchdog.at("loading")
        for finished in range(8):
            watchdog.at("evaluation", finished, 8)
            time.sleep(0.1)
        assert said == []
        wait_for(lambda: said)
    assert said[0].startswith("warning: evaluation has taken 1 s; it stands at 7 of 8, unchanged for 0 s, in ")


def test_a_warning_comes_back_only_after_twice_the_time() -> None:
    said: list[str] = []
    with Watchdog(said.append, nothing, nothing, QUICK) as watchdog:
        watchdog.at("evaluation", 1, 2)
        time.sleep(1.0)
    assert 1 <= len(said) <= 3


def test_a_child_that_died_ends_the_run_and_one_that_ended_well_does_not() -> None:
    ended: list[str] = []
    now: list[str] = []
    with Watchdog(nothing, ended.append, now.append, Patience(tick=0.02, child=0.2, stuck=0.3)):
        well = subprocess.Popen([sys.executable, "-c", ""])
        time.sleep(0.8)
        assert ended == []
        badly = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
        wait_for(lambda: now)
    assert len(ended) == 1
    assert ended[0].startswith(f"child process {badly.pid} (") and ended[0].endswith("died with exit code 3")
    assert (well.wait(), badly.wait()) == (0, 3), "their owner can still claim them"


def test_a_child_whose_owner_claims_it_is_no_matter() -> None:
    with Watchdog(nothing, nothing, nothing, Patience(tick=0.02, child=0.5)):
        for _ in range(3):
            subprocess.run([sys.executable, "-c", "raise SystemExit(3)"], check=False)
        late = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
        time.sleep(0.3)
        late.wait()
        time.sleep(0.3)


def test_a_child_from_before_the_run_is_no_matter() -> None:
    earlier = subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(3)"])
    with Watchdog(nothing, nothing, nothing, Patience(tick=0.02, child=0.1)):
        time.sleep(0.5)
    earlier.wait()


def test_the_same_phase_again_is_a_phase_of_its_own() -> None:
    """An update's micro-batches are counted anew in every optimizer step."""
    said: list[str] = []
    with Watchdog(said.append, nothing, nothing, QUICK) as watchdog:
        for _ in range(4):
            watchdog.at("update", 0, 8)
            time.sleep(0.03)
            watchdog.at("update", 7, 8)
        watchdog.at("update", 0, 8)
        wait_for(lambda: said)
    assert "times its median of 0.0 s; it stands at 0 of 8" in said[0]


def test_neither_ten_times_a_short_median_nor_thirty_seconds_of_a_long_one_are_slow() -> None:
    said: list[str] = []
    with Watchdog(said.append, nothing, nothing, Patience(least=5.0, tick=0.02)) as watchdog:
        for _ in range(4):
            watchdog.at("rollout")
            watchdog.at("update")
        time.sleep(0.1)
    with Watchdog(said.append, nothing, nothing, Patience(least=0.01, tick=0.02)) as watchdog:
        for _ in range(3):
            watchdog.at("rollout")
            time.sleep(0.1)
            watchdog.at("update")
        watchdog.at("rollout")
        time.sleep(0.3)
    assert said == []


def test_after_the_run_nothing_is_told() -> None:
    said: list[str] = []
    with Watchdog(said.append, nothing, nothing, QUICK) as watchdog:
        watchdog.at("evaluation", 1, 2)
    time.sleep(0.6)
    assert said == []


def test_it_is_as_patient_as_the_readme_says() -> None:
    usual = Patience()
    assert usual.factor == 10.0, "a phase takes ten times its median"
    assert usual.still == 5 * 60, "nothing moves for five minutes"
    assert usual.child + usual.stuck + 2 * usual.tick < 60, "a child process dies: the run ends within a minute"
