"""The process that works on a run: which it is, and whether it is still there.

Knows run directories and processes. Knows nothing about what a run does.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from msgrpo_cli.common.lock import last_holder

from .directory import Run

_SLACK = 60.0  # seconds by which clocks may disagree


@dataclass(frozen=True)
class RunProcess:
    """Where a run was started last."""

    pid: int
    host: str
    alive: bool | None
    """None: on another host, of which nothing is known here."""


def process_of(run: Run, record: Mapping[str, Any]) -> RunProcess | None:
    """The process by the lock, else by `record` (run.json); None where neither names one."""
    holder = last_holder(run.path)
    pid, host = holder or (record.get("pid"), record.get("host"))
    if not isinstance(pid, int) or not isinstance(host, str):
        return None
    return RunProcess(pid, host, _is_there(run, pid) if host == socket.gethostname() else None)


def _is_there(run: Run, pid: int) -> bool:
    """Whether the process lives; one that began after the run's last sign of life has only inherited its number."""
    try:
        process = psutil.Process(pid)
        began, dead = process.create_time(), process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    latest = last_sign(run)
    return not dead and (latest is None or began <= latest + _SLACK)


def last_sign(run: Run) -> float | None:
    """When the run last wrote anything that tells how it goes (seconds since the epoch)."""
    times = []
    for path in (run.path / "run.json", run.path / ".lock", run.metrics, run.episodes, run.progress):
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return max(times, default=None)
