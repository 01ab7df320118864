"""How a run is asked to end, and the safe points at which it does: signals, and a limit of hours.

Knows signals and clocks. Knows nothing about what the work is.

        signal ──► asked ──► the next safe point raises Interrupted        (within `heeding`: a run that can be saved)
        signal ──► Interrupted at once                                     (elsewhere: imports, loading)
        a second Ctrl-C or SIGTERM ──► the process ends within two seconds (a thread sees it, whatever hangs)
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from msgrpo_cli.errors import INTERRUPTED, TERMINATED, Interrupted

PARENT = "MSGRPO_PARENT"
"""Environment variable: a process that is to end when its parent, of this number, does."""
_GRACE = 1.0  # seconds between the second signal and the end of the process
_HEARD = b"\nthe run ends at the next safe point and saves what it has; once more to end it at once\n"
_URGENT = (signal.SIGINT, signal.SIGTERM)
_HANGUP = getattr(signal, "SIGHUP", None)
"""The terminal, or the connection to it, was closed; Windows has no such signal."""
_SCHEDULERS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""What SLURM and its like send ahead of the end (`#SBATCH --signal=USR1@300`)."""


class _State:
    """What was asked of this process so far."""

    asked: BaseException | None = None
    safe_points_only: bool = False
    deadline: float | None = None
    hours: float = 0.0
    last_words: Callable[[], None] | None = None
    heard: bytes = b""


_state = _State()


def heed_signals() -> None:
    """Let Ctrl-C, SIGTERM, a closed terminal and a scheduler's warning end the program in good order.

    For the main thread.
    """
    for number in (*_URGENT, *_SCHEDULERS):
        signal.signal(number, _on_signal)
    if _HANGUP is not None and signal.getsignal(_HANGUP) != signal.SIG_IGN:  # as under nohup
        signal.signal(_HANGUP, _on_signal)
    watched, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_on_the_second, args=(watched, waker), name="signals", daemon=True).start()


def follow_parent() -> None:
    """Be asked to end, as by SIGTERM, once the process that PARENT names is gone. Does nothing where none is named."""
    parent = int(os.environ.pop(PARENT, 0))
    if parent:
        threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


def asked_to_end() -> BaseException | None:
    """What `safe_point` would raise, where the end was asked for."""
    return _state.asked


def safe_point() -> None:
    """Raise Interrupted where the end was asked for. Long work calls this wherever it may be left."""
    if _state.asked is None and _state.deadline is not None and time.monotonic() >= _state.deadline:
        _state.asked = Interrupted(f"max_hours={_state.hours:g} is reached", TERMINATED)
    if _state.asked is not None:
        raise _state.asked


def end_at_next_safe_point(reason: BaseException) -> None:
    """Ask for the end from another thread; what the safe point raises is `reason` itself."""
    _state.asked = reason


@contextlib.contextmanager
def heeding(max_hours: float | None, last_words: Callable[[], None], heard: bytes = _HEARD) -> Iterator[None]:
    """Within, a signal waits for the next safe point, and so does the end of `max_hours`.

    `last_words` is called where a second signal ends the process at once; `heard` is written to stderr at the first.
    """
    _state.heard = heard
    _state.safe_points_only, _state.last_words, _state.hours = True, last_words, max_hours or 0.0
    _state.deadline = None if max_hours is None else time.monotonic() + 3600 * max_hours
    try:
        yield
    finally:
        _state.safe_points_only, _state.last_words, _state.deadline, _state.asked = False, None, None, None


def _on_signal(number: int, frame: FrameType | None) -> None:
    code = INTERRUPTED if number == signal.SIGINT else TERMINATED
    word = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    first = _state.asked is None
    _state.asked = _state.asked or Interrupted(word, code)
    if not _state.safe_points_only:
        raise _state.asked
    if first:
        with contextlib.suppress(OSError):
            os.write(2, _state.heard)  # print is no business of a signal handler


def _end_on_the_second(watched: socket.socket, waker: socket.socket) -> None:
    """Runs in a thread of its own, so that it works while the main thread is stuck in a library."""
    seen = 0
    while numbers := watched.recv(64):
        for number in numbers:
            seen += number in _URGENT
            if seen == 2:
                time.sleep(_GRACE)
                if _state.last_words is not None:
                    _state.last_words()
                os._exit(INTERRUPTED if number == signal.SIGINT else TERMINATED)
    waker.close()
