"""The cores of a CPU, and how many of them each of several processes has for its threads.

Knows what the operating system allows this process, and the variable by which a user decides. Knows nothing about what
the processes do.
"""

from __future__ import annotations

import os


def cores() -> int:
    """That this process may use; fewer than the machine's in a container, or on a cluster."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_asked() -> int | None:
    """Of each process, where `OMP_NUM_THREADS` says it."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else None


def threads_of_each(processes: int) -> int:
    """What the user asked for, else an equal share of the cores."""
    return threads_asked() or max(1, cores() // processes)
