"""What machines can do: a table of accelerators, this machine's CPU, and which of them a run would use here.

Knows data sheets and how to ask torch and the operating system. Knows nothing about models or configs. Imports torch
only where there is an NVIDIA device to ask about.

Sources: the vendors' data sheets, dense figures without sparsity (NVIDIA H100, H200, A100, L40S, L4 and T4 product
pages; GeForce figures are those of the Ada and Ampere GA102 architecture white papers, tensor cores with float32
accumulation). Memory is what `nvidia-smi` reports for the board. Nothing here was measured on a GPU; the CPU's
figures were, on this package's reference machine (experiments/plan).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from msgrpo_cli.common.cores import cores, threads_asked
from msgrpo_cli.errors import UsageError

MIB = 2**20
_MOST_IN_A_MACHINE = 256


@dataclass(frozen=True)
class Hardware:
    """One device that a run computes on."""

    name: str
    kind: str
    """cuda, mps or cpu."""
    memory: int
    """Bytes of the device, all of them."""
    bandwidth: float
    """Bytes a second, from its memory."""
    half: float | None
    """Floating-point operations a second of matrix products in bfloat16 (of the T4 in float16); None: not faster."""
    full: float
    """The same in float32."""
    has_bf16: bool = True
    words: tuple[str, ...] = ()
    """By which the device's own name is recognised."""
    gpus: int | None = None
    """So many of them in a machine; None where nobody said it."""

    def speed(self, *, half: bool) -> float:
        """Peak floating-point operations a second."""
        return self.half if half and self.half else self.full


def _gpu(
    name: str, mib: int, bandwidth: float, half: float, full: float, words: str, *, has_bf16: bool = True
) -> Hardware:
    """Bandwidth in GB/s, speeds in TFLOP/s."""
    return Hardware(
        name, "cuda", mib * MIB, bandwidth * 1e9, half * 1e12, full * 1e12, has_bf16, tuple(words.lower().split())
    )


GPUS: Mapping[str, Hardware] = {
    gpu.name: gpu
    for gpu in (
        _gpu("h200", 143_771, 4800, 989, 67, "H200"),
        _gpu("h100", 81_559, 3350, 989, 67, "H100"),
        _gpu("a100-80gb", 81_920, 2039, 312, 19.5, "A100 80GB"),
        _gpu("a100-40gb", 40_960, 1555, 312, 19.5, "A100"),
        _gpu("l40s", 46_068, 864, 362, 91.6, "L40S"),
        _gpu("l4", 23_034, 300, 121, 30.3, "L4"),
        _gpu("rtx4090", 24_564, 1008, 165, 82.6, "4090"),
        _gpu("rtx3090", 24_576, 936, 71, 35.6, "3090"),
        _gpu("t4", 15_360, 320, 65, 8.1, "T4", has_bf16=False),
    )
}
"""Data-sheet peaks; `duration` says which share of them is expected."""

CPU = "cpu"
CORE_SPEED = 100e9
"""Floating-point operations a second of float32 matrix products on one core, as measured (experiments/plan)."""
CPU_BANDWIDTH = 18e9
"""Bytes a second from memory, all cores together, as measured there."""


def names() -> list[str]:
    """What `--hardware` takes."""
    return [*GPUS, CPU]


def named(name: str) -> Hardware:
    """By the name of the table, `8xh100` where a machine has eight; the CPU is this machine's.

    Raises UsageError for another name.
    """
    wanted = name.lower().replace(" ", "").replace("_", "-")
    if wanted == CPU:
        return this_cpu()
    number, x, kind = wanted.partition("x")
    counted = bool(x) and number.isdecimal() and 0 < int(number) <= _MOST_IN_A_MACHINE
    gpu = GPUS.get(kind if counted else wanted)
    if gpu is None:
        raise UsageError(
            f"--hardware={name}: not in the table; choose one of {', '.join(names())}, with a number as in 8xh100 "
            f"where a machine has several (at most {_MOST_IN_A_MACHINE}), or leave it out"
        )
    return replace(gpu, gpus=int(number)) if counted else gpu


def this_cpu(processes: int = 1) -> Hardware:
    """What each of so many processes has here: its share of the cores, of the memory and of its bandwidth.

    The cores are all that torch would use; `OMP_NUM_THREADS` is what each process is given, here as in `launch/ranks`.
    """
    share = cores() / processes
    threads = threads_asked() or max(1, int(share))
    return Hardware(
        f"cpu, {count} threads" if (count := min(threads, cores())) > 1 else "cpu, 1 thread",
        "cpu",
        int(psutil.virtual_memory().total) // processes,
        CPU_BANDWIDTH / processes,
        None,
        CORE_SPEED * min(threads, share),
        has_bf16=False,
    )


def found(*, use_cpu: bool) -> Hardware | None:
    """What a run would compute on here; None for an accelerator that the table does not know."""
    if use_cpu or not _may_have_accelerator():
        return this_cpu()
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        known = recognised(properties.name, int(properties.total_memory))
        return replace(known, memory=int(properties.total_memory), gpus=torch.cuda.device_count()) if known else None
    return None if torch.backends.mps.is_available() else this_cpu()


def found_or_refused(*, use_cpu: bool) -> Hardware:
    """What a run would compute on here. Raises UsageError for an accelerator that the table does not know."""
    device = found(use_cpu=use_cpu)
    if device is None:
        raise UsageError(
            f"--hardware: this machine's accelerator is not in the table; name the most like it ({', '.join(names())})"
        )
    return device


def recognised(device: str, memory: int) -> Hardware | None:
    """The table's entry for a device by the name that its driver gives, such as `NVIDIA A100-SXM4-40GB`."""
    said = device.lower().replace("-", " ").split()
    fitting = [gpu for gpu in GPUS.values() if all(any(word in part for part in said) for word in gpu.words[:1])]
    exact = [gpu for gpu in fitting if gpu.words[0] in said] or fitting
    return min(exact, key=lambda gpu: abs(gpu.memory - memory)) if exact else None


def _may_have_accelerator() -> bool:
    """Whether torch is worth asking, which takes seconds to import."""
    return sys.platform != "linux" or any(any(Path("/dev").glob(name)) for name in ("nvidia[0-9]*", "dxg"))
