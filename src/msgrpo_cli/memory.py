"""Peak memory of the process or of its accelerator.

Knows the operating system's and torch's counters. Knows nothing about what uses the memory.
"""

from __future__ import annotations

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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kibibytes
