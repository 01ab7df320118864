"""The signs of life of all ranks of a run, as whoever started them sees them: which one the others wait for.

Knows the files that ranks write (`training/parallel/heartbeat.py`) and a clock of its own, so that those of other
machines do not matter. Knows nothing about how ranks are started or ended.

One rule. A run goes on as long as any of its ranks moves: whoever works for long is waited for. Where none has moved
for `parallel.patience` seconds, those that do not wait for others are what all wait for.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from msgrpo_cli.errors import RunError
from msgrpo_cli.training.parallel.heartbeat import Beat, read_beat

_NAMED = 3  # ranks of one message
_EVERY = 1.0  # seconds between two looks


@dataclass
class Heartbeats:
    """Of so many ranks, whose files lie in `folder`; `patience` is in seconds."""

    folder: Path
    count: int
    """0: not known yet."""
    patience: float
    ended: RunError | None = field(default=None, init=False)
    """What ends the run, once there has been a standstill."""
    _seen: dict[int, Beat | None] = field(default_factory=dict)
    _moved: dict[int, float] = field(default_factory=dict)
    _looked: float = 0.0

    def of(self, rank: int) -> Beat | None:
        """What a rank wrote last."""
        return read_beat(self.folder, rank)

    def named(self, rank: int, pid: int) -> str:
        """A rank that is gone, and where it stood, to people."""
        beat = self.of(rank)
        host, phase = (beat.host, beat.phase) if beat else (socket.gethostname(), "start")
        return f"rank {rank} of {self.count} on {host} (process {pid}), during {phase},"

    def standstill(self) -> str | None:
        """A sentence on what all wait for, where no rank has moved for too long. To be asked again and again."""
        now = time.monotonic()
        if not self.count or now - self._looked < _EVERY:
            return None
        self._looked = now
        for rank in range(self.count):
            beat, before = self.of(rank), self._seen.get(rank)
            if rank not in self._seen or (beat and beat.moves) != (before and before.moves):
                self._moved[rank] = now
            self._seen[rank] = beat
        if now - max(self._moved.values()) < self.patience:
            return None
        self.ended = RunError(self._told())
        return str(self.ended)

    def _told(self) -> str:
        by_age = sorted(range(self.count), key=lambda rank: self._moved[rank])
        missing = [rank for rank in by_age if self._seen[rank] is None]
        beats = [beat for rank in by_age if (beat := self._seen[rank]) is not None]
        working = [beat for beat in beats if not beat.waits]
        if missing:
            named = [f"rank {rank}, which never came up" for rank in missing]
        else:
            named = [_described(beat) for beat in working or beats]
        more = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        whom = "; ".join(named[:_NAMED]) + more
        waited = f"no process of the run has made any progress for {self.patience:g} s (parallel.patience)"
        if not missing and not working:
            return f"{waited}: all wait for each other, so a connection between them hangs: {whom}; go on with --resume"
        return f"{waited}; the others wait for {whom}; go on with --resume"


def _described(beat: Beat) -> str:
    part = f", {beat.finished} of {beat.total} finished" if beat.total else ""
    return f"rank {beat.rank} on {beat.host} (process {beat.pid}) during {beat.phase}{part}, at {beat.place}"
