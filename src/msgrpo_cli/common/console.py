"""What is said to a person: lines of error, plain progress, and stdout kept for results alone.

Knows streams and rich. Knows nothing about what is said.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType

from .secrets import masked

PLAIN_EVERY = 5.0  # seconds between plain lines


def stderr() -> Console:
    """stderr; in a notebook, which claims to be a terminal, it gets plain lines as a log does."""
    usual = Console(stderr=True)
    return Console(stderr=True, force_jupyter=False, force_terminal=False) if usual.is_jupyter else usual


_standing: list[Console] = []
"""The terminal on which a line of progress stands that the next one replaces."""


def tally(name: str, of_what: str, *, stays: bool = False) -> Callable[[int, int], None]:
    """Says now and then how far it is, such as "snake_8: 12 episodes, of 500"; nothing where that takes seconds.

    On a terminal one line, gone at the end, unless it `stays`; who may leave before calls `end_progress`.
    """
    last = time.monotonic()

    def said(finished: int, total: int) -> None:
        """Says it where it was silent for `PLAIN_EVERY` seconds; takes its line away at the end."""
        nonlocal last
        if finished >= total:
            end_progress()
        elif time.monotonic() - last >= PLAIN_EVERY:
            last = time.monotonic()
            console = stderr()
            end_progress()
            live = console.is_terminal and not console.is_dumb_terminal and not stays
            text = f"{name}: {finished} {of_what} {total}"
            console.print(
                text[: console.width - 1] if live else text, highlight=False, markup=False, end="" if live else "\n"
            )
            _standing.extend([console] if live else [])

    return said


def end_progress() -> None:
    """Takes away the line of progress, if one stands."""
    while _standing:
        _standing.pop().control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))


def say(problem: object) -> None:
    """Every line of what went wrong, on stderr; a token that some message repeats is masked."""
    with contextlib.suppress(OSError):  # a full or closed stderr changes no exit code
        for line in masked(str(problem)).splitlines() or [type(problem).__name__]:
            print(f"error: {line}", file=sys.stderr, flush=True)


class Forgiving:
    """A stream that swallows what cannot be written: a closed or full stderr decides over no run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def talk_on_stderr() -> Iterator[None]:
    """What libraries print meanwhile goes to stderr: Hydra, Ray and TRL write to stdout."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def has_person() -> bool:
    """Whether keys and a screen are there."""
    return sys.stdin.isatty() and sys.stdout.isatty() and not Console().is_dumb_terminal


def print_anything() -> None:
    """Models write every character there is; a stream whose encoding lacks one gets its escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
