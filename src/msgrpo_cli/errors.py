"""The ways in which the program refuses, fails or is ended, and their exit codes.

Knows exit codes. Knows nothing about what went wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

INTERRUPTED, TERMINATED = 130, 143


def shown(text: str) -> str:
    """Something that was typed, on one line and visible: quoted where it is empty or not printable."""
    return text if text and text.isprintable() else ascii(text)


class UsageError(Exception):
    """Nothing was started: the command line, the config or a named file is at fault. Exit code 2."""

    exit_code = 2


class RunError(Exception):
    """Started work failed, or a model, hub or server cannot be reached. Exit code 1."""

    exit_code = 1


class Interrupted(KeyboardInterrupt):
    """The process was asked to end: exit code 130 for Ctrl-C, 143 for SIGTERM, a scheduler's warning or `max_hours`.

    A KeyboardInterrupt, so that whatever library tidies up after Ctrl-C does so here too.
    """

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason, exit_code)
        self.exit_code = exit_code

    def __str__(self) -> str:
        return str(self.args[0])


class NotFinite(RunError):
    """A loss, gradient or reward that is NaN or infinite, met before an optimizer step took it into the weights.

    `found` says where it was met; `rows` are the training rows (`algo.batching.Row`) that led to it, where it has some.
    """

    def __init__(self, message: str, found: Mapping[str, Any], rows: Sequence[Any] = ()) -> None:
        super().__init__(message, found, rows)
        self.found = dict(found)
        self.rows = list(rows)

    def __str__(self) -> str:
        return str(self.args[0])
