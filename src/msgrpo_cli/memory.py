"""Peak memory of the process or of its accelerator.

Knows the operating system's and torch's counters. Knows nothing about what uses the memory.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: of the accelerator where there is one, else of the process."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status", encoding="ascii") as lines:
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # on Linux it would outlive exec
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others kibibytes
