"""Peak memory is told in bytes, and of this process."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest
import torch

from msgrpo_cli.common.memory import peak_memory

STATUS = Path("/proc/self/status")


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own count")
def test_the_peak_is_the_high_water_mark_of_the_process_in_bytes() -> None:
    bytearray(b"\x01") * 2**27  # 128 MiB, given back at once
    peak = peak_memory(torch.device("cpu"))
    kibibytes = next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    assert 0.99 * 1024 * kibibytes <= peak < psutil.virtual_memory().total
    assert peak > 2**27
