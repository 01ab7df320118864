"""The table of devices, and how one is found in it."""

from __future__ import annotations

import pytest

from msgrpo_cli.errors import UsageError
from msgrpo_cli.planning.hardware import CORE_SPEED, GPUS, MIB, found, named, names, recognised, this_cpu

DEVICES = {
    "NVIDIA H100 80GB HBM3": (81_559, "h100"),
    "NVIDIA H200": (143_771, "h200"),
    "NVIDIA A100-SXM4-40GB": (40_960, "a100-40gb"),
    "NVIDIA A100 80GB PCIe": (81_920, "a100-80gb"),
    "NVIDIA A100-SXM4-80GB": (81_920, "a100-80gb"),
    "NVIDIA L40S": (46_068, "l40s"),
    "NVIDIA L4": (23_034, "l4"),
    "NVIDIA GeForce RTX 4090": (24_564, "rtx4090"),
    "NVIDIA GeForce RTX 3090": (24_576, "rtx3090"),
    "Tesla T4": (15_360, "t4"),
}
"""As drivers name them."""


@pytest.mark.parametrize("device", DEVICES)
def test_devices_are_recognised_by_the_driver_s_name(device: str) -> None:
    mib, name = DEVICES[device]
    gpu = recognised(device, mib * MIB)
    assert gpu is not None
    assert gpu.name == name


def test_every_entry_is_recognised_and_others_are_not() -> None:
    assert {name for _, name in DEVICES.values()} == set(GPUS)
    assert recognised("NVIDIA GeForce GTX 1080", 8000 * MIB) is None
    for gpu in GPUS.values():
        assert gpu.half is not None
        assert gpu.full < gpu.half < 1e15 < gpu.bandwidth * 1e6
        assert gpu.speed(half=True) == gpu.half
        assert gpu.speed(half=False) == gpu.full


def test_names_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert named("RTX 4090") is GPUS["rtx4090"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert named("cpu") == this_cpu()
    assert this_cpu().full == CORE_SPEED
    assert this_cpu().speed(half=True) == CORE_SPEED  # bfloat16 is no faster there
    with pytest.raises(UsageError, match=r"--hardware=tpu: .*h100.*cpu"):
        named("tpu")
    assert names()[-1] == "cpu"


@pytest.mark.parametrize(
    ("asked", "processes", "name", "full"),
    [
        (None, 1, "cpu, 8 threads", 8),
        (None, 3, "cpu, 2 threads", 2),
        (None, 16, "cpu, 1 thread", 0.5),  # two of them on one core
        ("4", 1, "cpu, 4 threads", 4),
        ("4", 4, "cpu, 4 threads", 2),  # what the user sets is what each is given
        ("64", 1, "cpu, 8 threads", 8),
    ],
)
def test_processes_share_a_cpu(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, processes: int, name: str, full: float
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    cpu = this_cpu(processes)
    assert (cpu.name, cpu.full / CORE_SPEED) == (name, full)
    assert cpu.memory * processes <= this_cpu().memory
    assert cpu.bandwidth * processes == this_cpu().bandwidth


def test_a_run_that_keeps_off_the_gpu_computes_on_the_cpu() -> None:
    assert found(use_cpu=True) == this_cpu()
