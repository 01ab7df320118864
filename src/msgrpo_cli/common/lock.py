"""One process per directory, such as a run: a lock that the operating system lets go when its holder dies, however.

Knows a directory and processes. Knows nothing about what a run holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from msgrpo_cli.errors import UsageError

_NAME = ".lock"


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the run directory; UsageError where a live process holds it. A dead holder's lock is free.

    On a file system without locks (some network ones) the directory is taken without one.
    """
    handle = os.open(run_dir / _NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{run_dir}: in use by {_holder(handle)}; wait for it or end it") from None
        except OSError:
            pass
        else:
            os.truncate(handle, 0)
            os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        yield
    finally:
        os.close(handle)  # the file stays: removing it would let two processes lock two files of one name


def is_there(run_dir: Path) -> bool:
    """Whether a directory that was locked is still the same: nobody makes its lock anew but who locks it."""
    return (run_dir / _NAME).exists()


def last_holder(run_dir: Path) -> tuple[int, str] | None:
    """(pid, host) of the process that locked the directory last, whether it lives or not; None where none is known."""
    try:
        said = json.loads((run_dir / _NAME).read_text(encoding="utf-8"))
        return int(said["pid"]), str(said["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _holder(handle: int) -> str:
    try:
        said = json.loads(os.pread(handle, 1000, 0))
        return f"process {said['pid']} on {said['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
