"""What a model reads while it is watched, how long it takes, and the machine that this happens on.

Knows torch's hooks, clocks and memory. Knows nothing about games, rows or what is measured.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch
import transformers
import trl
from transformers import PreTrainedModel

from msgrpo_cli._version import __version__
from msgrpo_cli.common.cores import cores

from .limit import Once


@dataclass
class Watch:
    """Adds up over forward passes."""

    seconds: float = 0.0
    tokens_read: int = 0
    """Tokens read, padding included."""
    padding: int = 0

    @property
    def padding_share(self) -> float:
        return self.padding / self.tokens_read if self.tokens_read else 0.0


@contextmanager
def watching(model: PreTrainedModel) -> Iterator[Watch]:
    """Watch the backbone of a model, through which every token goes."""
    watch, began = Watch(), [0.0]

    def before(_: Any, __: Any, given: dict[str, Any]) -> None:
        ids, mask = given["input_ids"], given.get("attention_mask")
        watch.tokens_read += ids.numel()
        if mask is not None and mask.dim() == 2:  # packed sequences have no padding to speak of
            watch.padding += ids.numel() - int(mask[:, -ids.shape[1] :].sum())
        began[0] = now(ids.device)

    def after(_: Any, __: Any, given: dict[str, Any], ___: Any) -> None:
        watch.seconds += now(given["input_ids"].device) - began[0]

    hooks = [
        model.base_model.register_forward_pre_hook(before, with_kwargs=True),
        model.base_model.register_forward_hook(after, with_kwargs=True),
    ]
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()


def now(device: torch.device) -> float:
    """Seconds, once the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """How long the work takes."""
    began = now(device)
    work()
    return now(device) - began


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


_LIMITS: dict[Once, str] = {"nothing": "", "prompts": "shared_", "beginnings": "trie_"}


def beside_limits(seconds: Sequence[float], limits: Mapping[Once, Sequence[float]]) -> dict[str, float]:
    """The median of each limit, and of the ratios of the seconds to it, round by round."""
    figures: dict[str, float] = {}
    for once, name in _LIMITS.items():
        ratios = [whole / limit for whole, limit in zip(seconds, limits[once], strict=True)]
        figures |= {f"{name}limit_seconds": median(limits[once]), f"time_over_{name}limit": median(ratios)}
    return figures


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": _processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trl": trl.__version__,
        "msgrpo": __version__,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
