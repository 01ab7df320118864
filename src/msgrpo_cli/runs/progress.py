"""`progress.json`: what a run that works right now is doing, for whoever watches from another process.

Knows one small file, and a clock. Knows nothing about what happens in a phase.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from msgrpo_cli.common.files import SCHEMA

_EVERY = 1.0  # seconds between writes, at least
_PATIENCE = 2.0  # seconds that the end of a run waits for a disk that hangs


@dataclass(frozen=True)
class Progress:
    """The fields of the file."""

    phase: str
    finished: int
    total: int
    """Of what the phase counts: episodes, micro-batches; 0 where it counts nothing."""
    since: str
    """When the phase began: ISO 8601, UTC."""
    pid: int
    host: str
    schema: int = SCHEMA


class PhaseFile:
    """Told where the run stands (`at`); a thread writes it down, at most once a second. A context manager.

    The work never waits for the disk, and a file that cannot be written ends nothing. Afterwards the file is removed;
    it stays where the process was killed, and tells where.
    """

    def __init__(self, path: Path, every: float = _EVERY) -> None:
        self._path, self._aside = path, path.with_name(f".{path.name}.new")
        self._every = every
        self._now = Progress("start", 0, 0, _moment(), os.getpid(), socket.gethostname())
        self._written: Progress | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=_PATIENCE)
        for path in (self._path, self._aside):
            with contextlib.suppress(OSError):
                path.unlink()

    def at(self, name: str, finished: int = 0, total: int = 0) -> None:
        """The run stands here now."""
        before = self._now
        begins = name != before.phase or finished < before.finished
        since = _moment() if begins else before.since
        self._now = replace(before, phase=name, finished=finished, total=total, since=since)

    def _keep(self) -> None:
        while True:
            if (now := self._now) != self._written:
                with contextlib.suppress(OSError):
                    self._write(now)
                    self._written = now
            if self._stop.wait(self._every):
                return

    def _write(self, now: Progress) -> None:
        self._aside.write_text(json.dumps(asdict(now)) + "\n", encoding="utf-8")
        os.replace(self._aside, self._path)  # not synced: after a power cut nobody needs it


def read_progress(path: Path) -> Progress | None:
    """What the file says; None where there is none, or none that can be read."""
    try:
        return Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _moment() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
