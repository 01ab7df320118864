"""Signals to real processes: they wait for a safe point, a second one ends at once, a limit of hours ends too."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from msgrpo_cli.common import signals
from msgrpo_cli.common.signals import end_at_next_safe_point, heeding, safe_point
from msgrpo_cli.errors import INTERRUPTED, Interrupted

PROGRAM = """
import hashlib, sys, time
from msgrpo_cli.errors import RunError
from msgrpo_cli.cli.exit import ending
from msgrpo_cli.common.signals import asked_to_end, end_at_next_safe_point, heed_signals, heeding, safe_point

heed_signals()

def wait_until_asked():
    while not asked_to_end():
        time.sleep(0.01)

with ending(False):
    with heeding({hours}, lambda: print("last words", flush=True)):
        print("ready", flush=True)
        {work}
"""
HEARD = "\nthe run ends at the next safe point and saves what it has; once more to end it at once\n"
UNSAFE = "wait_until_asked(); print('still there', flush=True)"
SAFE = "[(time.sleep(0.01), safe_point()) for _ in range(60000)]"
STUCK = "hashlib.pbkdf2_hmac('sha256', b'', b'', 2 * 10**9)"  # no Python code runs meanwhile, but other threads do
_PATIENCE = 120.0  # seconds, of which STUCK takes more, and everything else hundreds of times less


def started(work: str, hours: str = "None") -> subprocess.Popen[str]:
    return run(PROGRAM.format(work=work, hours=hours))


def run(code: str) -> subprocess.Popen[str]:
    """A program that heeds a closed terminal, even if the tests themselves run under nohup."""
    heeding_all = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n{code}"
    process = subprocess.Popen(
        [sys.executable, "-c", heeding_all], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def deliver(number: int, process: subprocess.Popen[str]) -> None:
    """Send a signal and wait until the process has got it: two of a kind that wait together are one."""
    process.send_signal(number)
    status, until = Path(f"/proc/{process.pid}/status"), time.monotonic() + _PATIENCE
    while status.exists() and any(int(mask, 16) for mask in re.findall(r"(?:Sig|Shd)Pnd:\s*(\w+)", status.read_text())):
        assert time.monotonic() < until
        time.sleep(0.01)


def wait_until_stuck(process: subprocess.Popen[str]) -> None:
    """It computes and computes: what it did before `STUCK` took no time."""
    times, until = psutil.Process(process.pid).cpu_times, time.monotonic() + _PATIENCE
    before = times().user
    while times().user < before + 0.1:
        assert time.monotonic() < until
        time.sleep(0.01)


def started_outside(before: str, work: str) -> subprocess.Popen[str]:
    """Work that no run surrounds, after something else."""
    code = PROGRAM.split("    with heeding")[0] + f"    {before}\n    print('ready', flush=True)\n    {work}\n"
    return run(code)


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "error: interrupted\n"),
        (signal.SIGTERM, 143, "error: ended by SIGTERM\n"),
        (signal.SIGUSR1, 143, "error: ended by SIGUSR1\n"),
        (signal.SIGUSR2, 143, "error: ended by SIGUSR2\n"),
        (signal.SIGHUP, 143, "error: ended by SIGHUP\n"),
    ],
)
def test_the_end_comes_at_a_safe_point(number: int, code: int, said: str) -> None:
    process = started(f"{UNSAFE}; {SAFE}")
    process.send_signal(number)
    out, err = process.communicate(timeout=_PATIENCE)
    assert (process.returncode, out, err) == (code, "still there\n", HEARD + said)


def test_what_reaches_no_safe_point_is_finished() -> None:
    process = started(UNSAFE)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=_PATIENCE)
    assert (process.returncode, out, err) == (0, "still there\n", HEARD)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_the_process_whatever_hangs(number: int, code: int) -> None:
    process = started(STUCK)
    wait_until_stuck(process)
    deliver(number, process)
    assert process.poll() is None, "the first one waits"
    process.send_signal(number)
    out, _ = process.communicate(timeout=_PATIENCE)
    assert (process.returncode, out) == (code, "last words\n")


def test_that_takes_less_than_the_two_seconds_that_are_promised() -> None:
    assert signals._GRACE < 2.0


def test_a_scheduler_s_warning_is_not_the_first_of_two() -> None:
    process = started(f"{UNSAFE}; time.sleep(1.5); print('not ended at once', flush=True); {SAFE}")
    process.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=_PATIENCE)
    assert (process.returncode, out) == (143, "still there\nnot ended at once\n")


def test_max_hours_end_at_a_safe_point() -> None:
    process = started(SAFE, hours="0.00005")  # 0.18 s
    _, err = process.communicate(timeout=_PATIENCE)
    assert (process.returncode, err) == (143, "error: max_hours=5e-05 is reached\n")


def test_max_hours_end_nothing_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with heeding(2.0, print):
        for now in (1000.0, 1000.0 + 7199.0):  # noqa: B007 - the clock shows it
            try:
                safe_point()
            except Interrupted as early:  # to pytest this would be a Ctrl-C
                pytest.fail(str(early))
        now += 1.0
        with pytest.raises(Interrupted, match="max_hours=2 is reached"):
            safe_point()


def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    code = PROGRAM.format(work="sys.stdin.read()", hours="None")
    ignoring = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{code}"
    process = subprocess.Popen(
        [sys.executable, "-c", ignoring],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    deliver(signal.SIGHUP, process)
    _, err = process.communicate(timeout=_PATIENCE)
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("before", ["pass", "with heeding(None, print): pass"])
def test_elsewhere_a_signal_ends_at_once(before: str) -> None:
    process = started_outside(before, "time.sleep(600)")
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=_PATIENCE)
    assert process.returncode == 143


def test_after_a_run_a_second_signal_says_nothing_of_it() -> None:
    process = started_outside("with heeding(None, lambda: print('last words', flush=True)): pass", STUCK)
    wait_until_stuck(process)
    deliver(signal.SIGTERM, process)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=_PATIENCE)
    assert (process.returncode, out) == (143, "")


def test_what_was_asked_of_one_run_is_not_asked_of_the_next() -> None:
    for hours, said in ((None, "asked"), (0.0, "max_hours=0 is reached")):
        with pytest.raises(Interrupted, match=said), heeding(hours, print):
            if hours is None:
                end_at_next_safe_point(Interrupted("asked", INTERRUPTED))
            safe_point()
        try:
            safe_point()
        except Interrupted as left:  # to pytest this would be a Ctrl-C
            pytest.fail(str(left))


def test_the_first_reason_is_the_one_that_is_told() -> None:
    asking = "end_at_next_safe_point(RunError('a child died')); print('asked', flush=True)"
    process = started(f"{asking}; {UNSAFE}; {SAFE}", hours="0.0")
    assert process.stdout is not None and process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=_PATIENCE)
    assert (process.returncode, err) == (1, "error: a child died\n")
