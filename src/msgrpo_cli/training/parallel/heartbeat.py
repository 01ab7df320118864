"""The sign of life of a rank: where it stands and whether it moves, in a file for whoever watches all of them.

Knows phases, one small file of each rank, and a clock. Knows nothing about torch, games, or for how long a rank that
does not move is waited for: `launch/heartbeats.py` does.

What counts as moving: a phase that is told, a pass of the model, and while weights are read or a checkpoint is written
the bytes that come and go. So a long answer, a slow disk or a large model is no standstill.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ..watchdog import place_of

_EVERY = 1.0  # seconds between two looks
_BY_BYTES = ("start", "loading", "checkpoint")
"""Phases in which reading and writing is the work; the first reads the libraries."""
_MUCH = 1 << 20
"""Bytes, read or written, that count as moving; lines of a log do not."""


@dataclass(frozen=True)
class Beat:
    """The fields of the file."""

    rank: int
    host: str
    pid: int
    phase: str
    finished: int
    total: int
    """Of what the phase counts; 0 where it counts nothing."""
    waits: bool
    """For the other ranks."""
    moves: int
    """How often the rank has moved so far."""
    place: str
    """The line of code that its main thread is at."""


@dataclass(eq=False)
class Heartbeat:
    """Told where a rank stands; with a `folder` a thread writes it there. Begun in the main thread of the rank."""

    rank: int = 0
    folder: Path | None = None
    every: float = _EVERY
    """Seconds between two looks of the thread."""
    phase: str = field(default="start", init=False)
    _finished: int = field(default=0, init=False)
    _total: int = field(default=0, init=False)
    _waits: bool = field(default=False, init=False)
    _moves: int = field(default=0, init=False)
    _written: Beat | None = field(default=None, init=False)

    def begin(self) -> None:
        """Write from now on, as long as the process lives."""
        main = threading.current_thread().ident
        threading.Thread(target=self._keep, args=(main,), name="heartbeat", daemon=True).start()

    def at(self, phase: str, finished: int = 0, total: int = 0) -> None:
        """The rank stands here now."""
        self.phase, self._finished, self._total = phase, finished, total
        self.moved()

    def moved(self) -> None:
        """Work goes on."""
        self._moves += 1

    def follow(self, model: Any) -> None:
        """Every pass of this model (transformers' `PreTrainedModel`) counts as moving."""
        model.get_input_embeddings().register_forward_hook(self._passed)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Within, the rank reads weights in the midst of another phase."""
        before = self.phase, self._finished, self._total
        self.at("loading")
        try:
            yield
        finally:
            self.at(*before)

    def _passed(self, *_: Any) -> None:
        """A method, for models are copied and pickled with their hooks."""
        self.moved()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within, the rank waits for the others."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
            self.moved()

    def write(self, place: str) -> None:
        """Where the rank stands, and `place`, the line that it is at; nothing where that is what was written last."""
        assert self.folder is not None
        host, pid, counted = socket.gethostname(), os.getpid(), (self._finished, self._total)
        now = Beat(self.rank, host, pid, self.phase, *counted, self._waits, self._moves, place)
        if now == self._written:
            return
        path = beat_file(self.folder, self.rank)
        aside = path.with_suffix(".new")
        with suppress(OSError):
            aside.write_text(json.dumps(asdict(now)), encoding="utf-8")
            os.replace(aside, path)
            self._written = now

    def _keep(self, main: int | None) -> None:
        before, pause = 0, threading.Event()
        while True:
            if self.phase in _BY_BYTES and (there := _bytes_moved()) - before >= _MUCH:
                before = there
                self.moved()
            self.write(place_of(main))
            pause.wait(self.every)


def beat_file(folder: Path, rank: int) -> Path:
    """Where a rank writes."""
    return folder / f"beat-{rank}.json"


def read_beat(folder: Path, rank: int) -> Beat | None:
    """What a rank wrote last; None where it has not begun."""
    try:
        return Beat(**json.loads(beat_file(folder, rank).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _bytes_moved() -> int:
    """Read and written by this process so far; 0 where the system does not tell."""
    try:
        told = psutil.Process().io_counters()
    except (AttributeError, OSError, psutil.Error):  # macOS; a container that hides it
        return 0
    return sum(getattr(told, name, 0) for name in ("read_bytes", "read_chars", "write_chars"))
