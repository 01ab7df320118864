"""A run directory belongs to one live process."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from msgrpo_cli.common.lock import is_there, last_holder, locked
from msgrpo_cli.errors import UsageError

HOLD = """
import sys, time
from pathlib import Path
from msgrpo_cli.common.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_live_holder_is_named_and_a_dead_one_is_taken_over(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match=rf"in use by process {holder.pid} on "), locked(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path):
        pass


def test_the_lock_is_free_again_after_use_and_also_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), locked(tmp_path):
        raise ValueError("mine")
    with locked(tmp_path), pytest.raises(UsageError, match="in use by process"), locked(tmp_path):
        pass


@pytest.mark.parametrize("said", ["", "5", '{"pid": 5}'])
def test_a_holder_that_has_not_said_its_name_is_refused_in_words_too(tmp_path: Path, said: str) -> None:
    with (tmp_path / ".lock").open("w") as holder:
        holder.write(said)
        holder.flush()
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="in use by another process; wait for it or end it"), locked(tmp_path):
            pass


CHILD = """
import os, subprocess, sys, time
from pathlib import Path
from msgrpo_cli.common.lock import locked
with locked(Path(sys.argv[1])):
    if sys.argv[2] == "started":
        print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False).pid, flush=True)
    elif os.fork() == 0:
        print(os.getpid(), flush=True)  # by the child itself: what a fork does to locks is then done
    time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["forked", "started"])
def test_a_child_does_not_hold_what_its_killed_parent_held(tmp_path: Path, kind: str) -> None:
    holder = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path), kind], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(UsageError, match=rf"in use by process {holder.pid} on "), locked(tmp_path):
            pass
        holder.kill()
        holder.wait()
        os.kill(child, 0)  # it lives
        with locked(tmp_path):
            pass
    finally:
        holder.kill()
        os.kill(child, signal.SIGKILL)


def test_one_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with locked(tmp_path):
        before = lock.read_bytes(), lock.stat().st_mtime_ns  # a sign of life of the holder
        with pytest.raises(UsageError), locked(tmp_path):
            pass
        assert (lock.read_bytes(), lock.stat().st_mtime_ns) == before
    assert is_there(tmp_path) and last_holder(tmp_path) == (os.getpid(), socket.gethostname())


def test_a_removed_directory_is_not_made_anew(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(FileNotFoundError), locked(gone):
        pass
    gone.mkdir()
    with locked(gone):
        shutil.rmtree(gone)
        assert not is_there(gone)
    assert not gone.exists()


def test_of_what_an_earlier_holder_said_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(json.dumps({"pid": 1, "host": "long" * 100}))
    with locked(tmp_path), pytest.raises(UsageError, match=f"in use by process {os.getpid()} on "), locked(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_a_file_system_has_no_locks_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def none(handle: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path), locked(tmp_path):
        assert is_there(tmp_path)
