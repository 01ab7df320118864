"""Never silent: says when a phase takes far longer than it used to, and ends a run whose child process died.

Knows phases by their names, clocks and processes. Knows nothing about what happens in a phase.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

import psutil

_ADVICE = {
    "rollout": "fewer or shorter answers: rollout.max_new_tokens, rollout.max_live_episodes",
    "scoring": "smaller micro-batches: trainer.per_device_train_batch_size",
    "update": "smaller micro-batches: trainer.per_device_train_batch_size",
    "evaluation": "fewer episodes: eval.episodes; or rarely: eval.every",
    "checkpoint": "a faster disk (hydra.run.dir), or rarely: save.every",
    "loading": "a local copy of the weights: model.path=DIR",
}
_OWN = str(files("msgrpo_cli"))


@dataclass
class Patience:
    """When the watchdog speaks; seconds unless said otherwise."""

    factor: float = 10.0
    """Times the median of a phase."""
    known: int = 3
    """Finished phases of a name, from which on their median counts."""
    least: float = 30.0
    """No phase is slow before that."""
    still: float = 300.0
    """Without a known median: so long without any progress."""
    tick: float = 1.0
    child: float = 5.0
    """A child that died must be left unclaimed for so long before the run ends: its owner may be about to notice."""
    stuck: float = 30.0
    """After that, a main thread that reaches no safe point is ended with the process."""


@dataclass
class _Phase:
    name: str
    began: float
    moved: float
    finished: int = 0
    total: int = 0
    warned_after: float = 0.0


class Watchdog:
    """Told where the run stands (`at`); a thread looks at the clock. A context manager.

    `say(text)` gets warnings. `end(reason)` is called once a child process died and nobody claimed it, and `end_now`
    where the main thread then reaches no safe point.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        end: Callable[[str], None],
        end_now: Callable[[str], None],
        patience: Patience | None = None,
    ) -> None:
        self._say, self._end, self._end_now = say, end, end_now
        self._patience = patience or Patience()
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._phase = _Phase("start", time.monotonic(), time.monotonic())
        self._children = _Children(self._patience.child)
        self._stop = threading.Event()
        self._watched = threading.current_thread().ident
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    @property
    def phase(self) -> str:
        """Name of the present phase."""
        return self._phase.name

    def at(self, name: str, finished: int = 0, total: int = 0) -> None:
        """The run stands here now."""
        before, now = self._phase, time.monotonic()
        if name != before.name or finished < before.finished:
            self._seconds[before.name].append(now - before.began)
            self._phase = _Phase(name, now, now, finished, total)
        else:
            before.moved, before.finished, before.total = now, finished, total

    def _watch(self) -> None:
        ended_at: float | None = None
        while not self._stop.wait(self._patience.tick):
            self._look_at_phase(self._phase)
            if ended_at is None and (reason := self._children.died()) is not None:
                ended_at = time.monotonic()
                self._end(reason)
            elif ended_at is not None and time.monotonic() - ended_at > self._patience.stuck:
                self._end_now("a child process died, and the run did not end by itself")

    def _look_at_phase(self, phase: _Phase) -> None:
        patience, now = self._patience, time.monotonic()
        taken, still = now - phase.began, now - phase.moved
        known = self._seconds[phase.name]
        usual = median(known) if len(known) >= patience.known else None
        slow = taken > max(patience.factor * usual, patience.least) if usual is not None else still > patience.still
        if not slow or taken < 2 * phase.warned_after:
            return
        phase.warned_after = taken
        against = "" if usual is None else f", {taken / max(usual, 1e-3):.0f} times its median of {usual:.1f} s"
        progress = f"{phase.finished} of {phase.total}, unchanged for {still:.0f} s" if phase.total else "its beginning"
        advice = _ADVICE.get(phase.name, "msgrpo doctor; Ctrl-C ends the run so that it can be resumed")
        self._say(
            f"warning: {phase.name} has taken {taken:.0f} s{against}; it stands at {progress}, in "
            f"{place_of(self._watched)}; try {advice}"
        )


@dataclass
class _Children:
    """Child processes of the run that died badly and that nobody has claimed since."""

    patience: float
    others: frozenset[int] = field(default_factory=lambda: frozenset(c.pid for c in psutil.Process().children()))
    """Not the run's: what the process had started before, as a notebook may have."""
    first_seen: dict[int, float] = field(default_factory=dict)

    def died(self) -> str | None:
        """A sentence about the first that has been left unclaimed for too long."""
        dead = {}
        for child in _zombies(self.others):
            status = _ending(child.pid)
            if status is not None and status.si_status != 0:
                dead[child.pid] = (child, status)
        self.first_seen = {pid: self.first_seen.get(pid, time.monotonic()) for pid in dead}
        for pid, since in self.first_seen.items():
            if time.monotonic() - since >= self.patience:
                child, status = dead[pid]
                how = "exit code" if status.si_code == os.CLD_EXITED else "signal"
                return f"child process {pid} ({child.name()}) died with {how} {status.si_status}"
        return None


def _zombies(others: frozenset[int]) -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        try:
            if child.pid not in others and child.status() == psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def _ending(pid: int) -> Any:
    """How a child ended, without claiming it; None where it was claimed meanwhile, or where the system cannot tell."""
    if not hasattr(os, "waitid"):  # macOS
        return None
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None


def place_of(thread: int | None) -> str:
    """The innermost line of ours and the innermost line of all that a thread is executing."""
    frame: FrameType | None = sys._current_frames().get(thread or 0)
    if frame is None:
        return "an unknown place"
    innermost, ours = frame, frame
    while ours.f_back is not None and not ours.f_code.co_filename.startswith(_OWN):
        ours = ours.f_back
    places = [f"{Path(f.f_code.co_filename).name}:{f.f_lineno} ({f.f_code.co_name})" for f in (ours, innermost)]
    return places[0] if ours is innermost else f"{places[0]} within {places[1]}"
