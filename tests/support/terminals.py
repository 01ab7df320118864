"""A program in a pseudo-terminal of a given size: keys go in, and what the screen shows is asked for."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE = 300.0
_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[()].|[=>78])")


class Terminal:
    """One program; `output` is everything that it wrote, control sequences included."""

    def __init__(self, process: subprocess.Popen[bytes], handle: int) -> None:
        self.process, self._handle = process, handle
        self.output = ""

    def press(self, keys: str) -> None:
        os.write(self._handle, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        _set_size(self._handle, columns, lines)
        self.process.send_signal(signal.SIGWINCH)

    def wait_for(self, text: str, since: int = 0) -> str:
        """Everything shown after the first `since` characters of `output`, once `text` is in it."""
        until = time.monotonic() + _PATIENCE
        while text not in (shown := plain(self.output[since:])):
            assert time.monotonic() < until, f"{text!r} was not shown, but:\n{shown[-3000:]}"
            assert self._read(0.1) or self.process.poll() is None, f"the program ended without {text!r}:\n{shown}"
        return shown

    def wait_for_the_end(self) -> int:
        until = time.monotonic() + _PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < until, f"it did not end:\n{plain(self.output)[-2000:]}"
            self._read(0.05)
        while self._read(0.0):
            pass
        return self.process.returncode

    def echoes(self) -> bool:
        """Whether typed characters are echoed and lines are edited, as it was before."""
        flags = termios.tcgetattr(self._handle)[3]
        return bool(flags & termios.ECHO and flags & termios.ICANON)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._handle], [], [], seconds)[0]:
            return False
        try:
            heard = os.read(self._handle, 1 << 16)
        except OSError:  # nobody holds the other side any more
            return False
        self.output += heard.decode(errors="replace")
        return bool(heard)


def plain(text: str) -> str:
    """Without control sequences."""
    return _SEQUENCE.sub("", text)


@contextmanager
def terminal(*arguments: str, columns: int = 80, lines: int = 24, folder: Path | None = None) -> Iterator[Terminal]:
    """`msgrpo ARGUMENTS` in a terminal; it is killed if it has not ended by itself."""
    ours, theirs = pty.openpty()
    _set_size(theirs, columns, lines)
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-m", "msgrpo_cli", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
    )
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(theirs)
        os.close(ours)


def _set_size(handle: int, columns: int, lines: int) -> None:
    fcntl.ioctl(handle, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
