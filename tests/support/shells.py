"""A real interactive shell in a pseudo-terminal: types a line, presses TAB, and reads what became of the line."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PATIENCE = 300.0

# How each shell starts without anybody's settings.
_START = {
    "bash": ["bash", "--noprofile", "--norc", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
_KEEP = 'mv "$LINE.new" "$LINE"'
# Then: Ctrl-X d writes the line as it stands to a file; our script is read as docs/configuration.md says.
_SET_UP = {
    "bash": [
        "bind 'set bell-style none'",
        f"""bind -x '"\\C-xd": printf %s "$READLINE_LINE" > "$LINE.new"; {_KEEP}'""",
        'eval "$(msgrpo completion bash)"',
    ],
    "zsh": [
        "autoload -Uz compinit && compinit -u -D; unsetopt beep",
        f'keep-line() {{ print -rn -- "$BUFFER" > "$LINE.new"; {_KEEP} }}',
        "zle -N keep-line; bindkey '^Xd' keep-line",
        'eval "$(msgrpo completion zsh)"',
    ],
    "fish": [
        f'function keep-line; set -l text (commandline | string collect); printf %s $text > "$LINE.new"; {_KEEP}; end',
        "bind \\cxd keep-line",
        "msgrpo completion fish | source",
    ],
}


class Shell:
    """One shell process; `complete` gives the line after TAB."""

    def __init__(self, terminal: int, line: Path) -> None:
        self._terminal, self._line = terminal, line
        self.shown = ""

    def complete(self, typed: str) -> str:
        """Type, press TAB, and give back the line; it is then thrown away."""
        self._line.unlink(missing_ok=True)
        self._write(f"{typed}\t\x18d")  # the shell reads the second key once it has answered the first
        found = self._wait_for_line()
        self._write("\x05\x15")  # Ctrl-E, Ctrl-U: to the end, and away with it
        return found

    def run(self, command: str) -> None:
        """Let the shell run a command, and wait until it has."""
        self._line.unlink(missing_ok=True)
        self._write(f"{command}\n")
        self._write(f"touch {self._line}\n")
        self._wait_for_line()

    def _write(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _wait_for_line(self) -> str:
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            if select.select([self._terminal], [], [], 0.05)[0]:
                self.shown += os.read(self._terminal, 65536).decode(errors="replace")
            if self._line.exists():
                return self._line.read_text()
        raise AssertionError(f"the shell did not answer; it showed: {self.shown!r}")


@contextmanager
def shell(name: str, folder: Path, **environment: str) -> Iterator[Shell]:
    """A shell whose `msgrpo` is this checkout's, working in `folder`; skips the test where there is no such shell."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    programs = folder / ".bin"
    programs.mkdir(exist_ok=True)
    program = programs / "msgrpo"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m msgrpo_cli "$@"\n')
    program.chmod(0o755)
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        settings = {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "LINE": str(folder / ".line"),
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / ".settings"),
            "XDG_DATA_HOME": str(folder / ".data"),
            "TERM": "xterm",
            "COLUMNS": "200",
            **environment,
        }
        os.execvpe(name, _START[name], settings)
    try:
        typist = Shell(terminal, folder / ".line")
        for command in _SET_UP[name]:
            typist.run(command)
        yield typist
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)
