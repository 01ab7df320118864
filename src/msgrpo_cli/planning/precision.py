"""What a run computes in on some hardware, and what weights that are shared out are gathered in.

Knows keys of a config and what a device can. Knows nothing about shapes, games or torch.
"""

from __future__ import annotations

from msgrpo_cli.config.schema import RunConfig

from .disk import BYTES
from .hardware import Hardware


def autocasts(config: RunConfig, hardware: Hardware) -> bool:
    """As `models.precision.autocast_dtype` decides on that hardware."""
    return bool(config.trainer.get("fp16")) or _in_bf16(config, hardware)


def gathered_bytes(config: RunConfig, hardware: Hardware) -> int:
    """Of one gathered weight: `training.parallel.sharding` gathers in bf16 where training autocasts to it."""
    return BYTES["bfloat16"] if _in_bf16(config, hardware) else BYTES[config.model.dtype]


def summed_bytes(config: RunConfig, hardware: Hardware) -> int:
    """Of one gradient that processes sum: in full precision where weights are gathered in half of it."""
    return BYTES["float32"] if _in_bf16(config, hardware) or config.lora.enabled else BYTES[config.model.dtype]


def _in_bf16(config: RunConfig, hardware: Hardware) -> bool:
    if config.trainer.get("fp16"):
        return False
    asked = config.trainer.get("bf16")
    return bool(asked) if asked is not None else hardware.has_bf16 and hardware.kind == "cuda"
