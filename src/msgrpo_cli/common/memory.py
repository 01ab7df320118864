"""Peak memory of the process or of its accelerator, how much is free, and what is given back to the system.

Knows the operating system's and torch's counters. Knows nothing about what uses the memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch

_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CONTAINER_USED = Path("/sys/fs/cgroup/memory.current")


def free_memory() -> int:
    """Bytes that this process may still take of the machine's memory, or of its container's."""
    free = int(psutil.virtual_memory().available)
    limit = _CONTAINER_LIMIT.read_text().strip() if _CONTAINER_LIMIT.is_file() else "max"
    if limit.isdigit():
        free = min(free, int(limit) - int(_CONTAINER_USED.read_text()))
    return free


def give_back_freed() -> None:
    """Give back to the system what malloc keeps of blocks that were freed; glibc's alone keeps much, and can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: of the accelerator where there is one, else of the process."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status", encoding="ascii") as lines:
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # on Linux it would outlive exec
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others kibibytes


def resident_memory() -> int:
    """Bytes of the process that are in memory now."""
    return int(psutil.Process().memory_info().rss)


def growth_of_peak(device: torch.device, before: int) -> int:
    """Bytes by which peak memory grew: of the process since it held `before`, or all of an accelerator's."""
    return peak_memory(device) if device.type == "cuda" else max(0, peak_memory(device) - before)
