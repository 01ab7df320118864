"""A run directory belongs to one live process."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from msgrpo_cli.common.lock import locked
from msgrpo_cli.errors import UsageError

HOLD = """
import sys, time
from pathlib import Path
from msgrpo_cli.run_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
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


def test_of_what_an_earlier_holder_said_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(json.dumps({"pid": 1, "host": "long" * 100}))
    with locked(tmp_path), pytest.raises(UsageError, match=f"in use by process {os.getpid()} on "), locked(tmp_path):
        pass


def test_where_a_file_system_has_no_locks_the_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path):
        pass
