"""A run directory belongs to one live process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from msgrpo_cli.errors import UsageError
from msgrpo_cli.run_lock import locked

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
