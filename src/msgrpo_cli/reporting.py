"""How a command ends: its exit code, one line on stderr for what went wrong, results alone on stdout.

Knows exit codes and streams. Knows nothing about what the commands do.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from .errors import RunError, Terminated, UsageError

INTERRUPTED, TERMINATED = 130, 143


def say(problem: object) -> None:
    """Every line of what went wrong, on stderr."""
    for line in str(problem).splitlines() or [type(problem).__name__]:
        print(f"error: {line}", file=sys.stderr)


@contextlib.contextmanager
def ending(verbose: bool) -> Iterator[None]:
    """Turn whatever leaves a command into its exit code; the traceback is shown with `-v`."""
    try:
        yield
    except Terminated as problem:
        _leave(problem, "ended by SIGTERM", TERMINATED, verbose)
    except KeyboardInterrupt as problem:
        _leave(problem, "interrupted", INTERRUPTED, verbose)
    except (UsageError, RunError) as problem:
        _leave(problem, problem, problem.exit_code, verbose)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as problem:  # noqa: BLE001 - the outermost boundary: users see a line, not a traceback
        _leave(problem, f"{type(problem).__name__}: {str(problem).partition(chr(10))[0]}", RunError.exit_code, verbose)


def _leave(problem: BaseException, message: object, code: int, verbose: bool) -> NoReturn:
    if verbose:
        traceback.print_exception(problem)
    say(message)
    sys.exit(code)


@contextlib.contextmanager
def talk_on_stderr() -> Iterator[None]:
    """What libraries print meanwhile goes to stderr: Hydra, Ray and TRL write to stdout."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


_asked: list[int] = []
"""Signals that asked the program to end."""


def heed_signals() -> None:
    """Let Ctrl-C and SIGTERM end the program, so that a run is marked as interrupted."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)


def end_if_asked() -> None:
    """Raise what a signal asked for. Long work calls this now and then: an exception that a signal raised inside some
    library's callback may have been swallowed there (seen on a busy machine)."""
    if _asked:
        raise Terminated if _asked[-1] == signal.SIGTERM else KeyboardInterrupt


def _end(signum: int, frame: FrameType | None) -> None:
    _asked.append(signum)
    end_if_asked()
