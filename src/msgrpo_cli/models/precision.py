"""Where and in which precision a run computes, and whether this machine can.

Knows the trainer's switches (`bf16`, `fp16`, `tf32`, `use_cpu`) and asks torch about the hardware. Knows nothing about
models, games or files. Imports torch only when it is asked something that needs it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import UsageError
from msgrpo_cli.runs.gguf import is_gguf

if TYPE_CHECKING:
    import torch

_NAMES = {"bfloat16": "bf16", "float16": "fp16"}
"""TRL's names of what torch calls otherwise."""
_LEAVE_OUT = "leave it out: bf16 where a GPU has it, float32 elsewhere"


def device_for(trainer: Mapping[str, Any]) -> torch.device:
    """The accelerator that torch finds, else the CPU; the CPU where `trainer.use_cpu` asks for it."""
    import torch

    if trainer.get("use_cpu"):
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")


def autocast_dtype(trainer: Mapping[str, Any], device: torch.device) -> torch.dtype | None:
    """What matrices are multiplied in, where that is not the dtype of the weights.

    As asked; where nothing is asked, bfloat16 on a GPU that has it, and nothing on a CPU or on Apple's mps.
    """
    import torch

    if trainer.get("fp16"):
        return torch.float16
    asked = trainer.get("bf16")
    if asked if asked is not None else _has_bf16(device):
        return torch.bfloat16
    return None


def precision_name(autocast: torch.dtype | None, weights: torch.dtype) -> str:
    """As it stands in run.json: bf16, fp16 or float32."""
    name = str(autocast or weights).removeprefix("torch.")
    return _NAMES.get(name, name)


def check_precision(config: RunConfig) -> None:
    """Raises UsageError for what this machine cannot do. Loads nothing where nothing out of the ordinary is asked."""
    trainer, quantization = config.trainer, config.lora.quantization
    asked = [name for name in _SUITS if trainer.get(name)]
    if quantization and is_gguf(config.model.path):
        raise UsageError(
            f"lora.quantization={quantization}: not of a GGUF file, whose weights are unpacked when they are loaded; "
            "leave it out"
        )
    if {"bf16", "fp16"} <= set(asked):
        raise UsageError("trainer.fp16=true: together with trainer.bf16=true; only one of them")
    if trainer.get("fp16") and config.model.dtype == "float16":
        raise UsageError("trainer.fp16=true: needs weights of full precision to step; use model.dtype=float32")
    if not asked and not quantization:
        return
    device = device_for(trainer)
    for name in asked:
        suits, needed = _SUITS[name]
        if not suits(device):
            raise UsageError(f"trainer.{name}=true: needs {needed}, this run computes on {device}; {_LEAVE_OUT}")
    if quantization:
        check_quantization(quantization, device)


def check_steps(config: RunConfig) -> None:
    """Raises UsageError where the trained weights could not take a step, on whatever machine."""
    if config.model.dtype == "float16" and not config.lora.enabled:
        raise UsageError(
            "model.dtype=float16: weights in half precision overflow or lose their steps in training; use "
            "model.dtype=auto with trainer.fp16=true, model.dtype=bfloat16, or lora.enabled=true"
        )


def check_quantization(quantization: str, device: torch.device) -> None:
    """Raises UsageError where bitsandbytes cannot run."""
    key = f"lora.quantization={quantization}"
    if device.type != "cuda":
        raise UsageError(f"{key}: needs a CUDA GPU, this run computes on {device}; leave it out: adapters alone")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(f"{key}: bitsandbytes is not installed; pip install 'msgrpo[qlora]', or leave it out")


def _has_bf16(device: torch.device) -> bool:
    import torch

    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _has_fp16(device: torch.device) -> bool:
    return device.type == "cuda"


def _has_tf32(device: torch.device) -> bool:
    import torch

    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= _AMPERE


_AMPERE = 8  # compute capability from which a GPU has tf32
_SUITS: Mapping[str, tuple[Callable[[torch.device], bool], str]] = {
    "bf16": (_has_bf16, "a GPU that has bf16"),
    "fp16": (_has_fp16, "a CUDA GPU"),
    "tf32": (_has_tf32, "a GPU that has tf32 (Ampere or later)"),
}
