"""The two ways in which the program refuses or fails, and their exit codes.

Knows exit codes. Knows nothing about what went wrong.
"""

from __future__ import annotations


class UsageError(Exception):
    """Nothing was started: the command line, the config or a named file is at fault. Exit code 2."""

    exit_code = 2


class RunError(Exception):
    """Started work failed, or a model, hub or server cannot be reached. Exit code 1."""

    exit_code = 1


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM; whoever tidies up after Ctrl-C does so here too. Exit code 143."""
