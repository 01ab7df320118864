"""One process per directory, such as a run: a lock that the operating system lets go when its holder dies, however.

Knows a directory and processes. Knows nothing about what a run holds.
"""

from __future__ import annotations

import contextlib
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

    On a file system without locks (some network ones) the directory is taken without one. A forked child does not
    hold what its parent held. Raises OSError where the directory is not there or cannot be written to.
    """
    from filelock import FileLock, Timeout  # 35 ms, and `msgrpo --help` locks nothing

    file = run_dir / _NAME
    file.open("a").close()  # raises where the directory was removed, which filelock would make anew
    # The file stays: removing it would let two processes lock two files of one name.
    lock = FileLock(file, blocking=False, fallback_to_soft=False, preserve_lock_file=True)
    try:
        try:
            lock.acquire()
        except Timeout:
            raise UsageError(f"{run_dir}: in use by {_holder(run_dir)}; wait for it or end it") from None
        except OSError:
            pass
        else:
            file.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
        yield
    finally:
        lock.release()


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


def _holder(run_dir: Path) -> str:
    holder = last_holder(run_dir)
    return "another process" if holder is None else f"process {holder[0]} on {holder[1]}"
