"""The watchdog with real threads, real child processes, and a clock that goes on only when a test says so."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from msgrpo_cli.training.watchdog import Patience, Watchdog

OFTEN = Patience(tick=0.005)
"""As patient as usual, but it looks often."""
_PATIENCE = 120.0  # real seconds


unexpected: list[str] = []
nothing = unexpected.append


@pytest.fixture(autouse=True)
def _nothing_unexpected() -> Iterator[None]:
    unexpected.clear()
    yield
    assert unexpected == []


def wait_for(condition: Callable[[], object]) -> None:
    until = time.perf_counter() + _PATIENCE
    while not condition():
        assert time.perf_counter() < until, "it did not happen"
        time.sleep(0.005)


class Clock:
    """Stands in for `time.monotonic`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.looks = 0
        """How often the watchdog has asked what time it is: once in every look, and more where a child died."""

    def __call__(self) -> float:
        self.looks += threading.current_thread().name == "watchdog"
        return self.now

    def after(self, seconds: float) -> None:
        """So many seconds pass at once; returns when the watchdog has seen it and said what it had to say."""
        self.now += seconds
        self.be_looked_at()

    def be_looked_at(self, times: int = 12) -> None:
        """A look may be under way while the time changes, and asks for the time up to four times."""
        seen = self.looks + times
        wait_for(lambda: self.looks >= seen)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def test_a_phase_of_ten_times_its_median_is_told_with_place_and_advice(clock: Clock) -> None:
    said: list[str] = []
    with Watchdog(said.append, nothing, nothing, OFTEN) as watchdog:
        for _ in range(3):
            watchdog.at("rollout", 0, 8)
            clock.after(4.0)
            watchdog.at("update")
        watchdog.at("rollout", 3, 8)
        clock.after(39.0)
        assert said == []
        clock.after(2.0)
    assert len(said) == 1
    assert said[0].startswith("warning: rollout has taken 41 s, 10 times its median of 4.0 s; it stands at 3 of 8, ")
    assert "unchanged for 41 s" in said[0]
    assert "test_watchdog.py" in said[0] and "rollout.max_new_tokens" in said[0]


def test_a_usual_phase_is_not_told(clock: Clock) -> None:
    said: list[str] = []
    with Watchdog(said.append, nothing, nothing, OFTEN) as watchdog:
        for _ in range(5):
            watchdog.at("rollout", 0, 8)
            clock.after(100.0)
            watchdog.at("update")
    assert said == []


def test_standing_still_is_told_where_no_median_is_known_and_progress_is_not(clock: Clock) -> None:
    said: list[str] = []
    with Watchdog(said.append, nothing, nothing, OFTEN) as watchdog:
        watchdog.at("loading")
        for finished in range(8):
            watchdog.at("evaluation", finished, 8)
            clock.after(200.0)
        assert said == []
        clock.after(101.0)
    [told] = said
    assert told.startswith("warning: evaluation has taken 1701 s; it stands at 7 of 8, unchanged for 301 s, in ")


def test_a_warning_comes_back_only_after_twice_the_time(clock: Clock) -> None:
    said: list[str] = []
    with Watchdog(said.append, nothing, nothing, OFTEN) as watchdog:
        watchdog.at("evaluation", 1, 2)
        for _ in range(13):  # to 1300 s; the warnings come at 400 s, 800 s
            clock.after(100.0)
    assert [text.partition(" s;")[0].rpartition(" ")[2] for text in said] == ["400", "800"]


def test_a_child_that_died_ends_the_run_and_one_that_ended_well_does_not(clock: Clock) -> None:
    ended: list[str] = []
    now: list[str] = []
    with Watchdog(nothing, ended.append, now.append, OFTEN):
        well = subprocess.Popen([sys.executable, "-c", ""])
        wait_for(lambda: has_ended(well))
        clock.after(10.0)
        clock.after(10.0)
        assert ended == []
        badly = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
        wait_for(lambda: has_ended(badly))
        clock.after(0.0)  # from here on it is known
        clock.after(4.0)
        assert ended == []
        clock.after(2.0)
        assert len(ended) == 1 and now == []
        clock.after(29.0)
        assert now == []
        clock.after(2.0)
        assert now
    assert len(ended) == 1
    assert ended[0].startswith(f"child process {badly.pid} (") and ended[0].endswith("died with exit code 3")
    assert (well.wait(), badly.wait()) == (0, 3), "their owner can still claim them"


def has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Without claiming it."""
    return psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE


def test_a_child_whose_owner_claims_it_is_no_matter(clock: Clock) -> None:
    with Watchdog(nothing, nothing, nothing, OFTEN):
        for _ in range(3):
            subprocess.run([sys.executable, "-c", "raise SystemExit(3)"], check=False)
            clock.after(10.0)
        late = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
        wait_for(lambda: has_ended(late))
        clock.after(4.0)
        late.wait()
        clock.after(10.0)
        clock.after(10.0)


def test_a_child_from_before_the_run_is_no_matter(clock: Clock) -> None:
    earlier = subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(3)"])
    with Watchdog(nothing, nothing, nothing, OFTEN):
        wait_for(lambda: has_ended(earlier))
        clock.after(10.0)
        clock.after(10.0)
    earlier.wait()


def test_the_same_phase_again_is_a_phase_of_its_own(clock: Clock) -> None:
    """An update's micro-batches are counted anew in every optimizer step."""
    said: list[str] = []
    with Watchdog(said.append, nothing, nothing, OFTEN) as watchdog:
        for _ in range(4):
            watchdog.at("update", 0, 8)
            clock.after(5.0)
            watchdog.at("update", 7, 8)
        watchdog.at("update", 0, 8)
        clock.after(51.0)
    [told] = said
    assert "10 times its median of 5.0 s; it stands at 0 of 8" in told


def test_neither_ten_times_a_short_median_nor_thirty_seconds_of_a_long_one_are_slow(clock: Clock) -> None:
    said: list[str] = []
    with Watchdog(said.append, nothing, nothing, OFTEN) as watchdog:
        for _ in range(4):
            watchdog.at("rollout")
            clock.after(0.1)
            watchdog.at("update")
        watchdog.at("rollout")
        clock.after(29.0)
    with Watchdog(said.append, nothing, nothing, OFTEN) as watchdog:
        for _ in range(3):
            watchdog.at("rollout")
            clock.after(20.0)
            watchdog.at("update")
        watchdog.at("rollout")
        clock.after(190.0)
    assert said == []


def test_after_the_run_nothing_is_told(clock: Clock) -> None:
    def watching() -> bool:
        return any(thread.name == "watchdog" for thread in threading.enumerate())

    said: list[str] = []
    with Watchdog(said.append, nothing, nothing, OFTEN) as watchdog:
        watchdog.at("evaluation", 1, 2)
        assert watching()
    wait_for(lambda: not watching())
    assert said == []


def test_it_is_as_patient_as_the_readme_says() -> None:
    usual = Patience()
    assert usual.factor == 10.0, "a phase takes ten times its median"
    assert usual.still == 5 * 60, "nothing moves for five minutes"
    assert usual.child + usual.stuck + 2 * usual.tick < 60, "a child process dies: the run ends within a minute"
