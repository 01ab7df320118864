"""Environment variables of accelerate, torch and transformers that would overrule the config in silence.

Knows their names and which key decides instead. Knows nothing about configs or what is computed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

_PRECISION = "trainer.bf16 and trainer.fp16 decide"
_DEVICE = "trainer.use_cpu decides"
_TF32 = "trainer.tf32 decides"
_ALONE = "parallel decides"
_KERNELS = "model.attn_implementation decides"
_OVERRULED: Mapping[str, str] = {
    "ACCELERATE_MIXED_PRECISION": _PRECISION,
    "ACCELERATE_DOWNCAST_BF16": _PRECISION,
    "XLA_USE_BF16": _PRECISION,
    "XLA_DOWNCAST_BF16": _PRECISION,
    "ACCELERATE_USE_CPU": _DEVICE,
    "ACCELERATE_TORCH_DEVICE": _DEVICE,
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "algo.optimizer_steps decides",
    "ACCELERATE_GRADIENT_CLIPPING": "trainer.max_grad_norm decides",
    "RANK": _ALONE,
    "LOCAL_RANK": _ALONE,
    "NVIDIA_TF32_OVERRIDE": _TF32,
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": _TF32,
    "TRANSFORMERS_SDPA_FORCE_GQA": _KERNELS,
    "TRANSFORMERS_DISABLE_DEEPGEMM_LINEAR": _KERNELS,
    "USE_HUB_KERNELS": _KERNELS,
}
_OF_RANKS = ("RANK", "LOCAL_RANK")
_PREFIXES: Mapping[str, str] = {
    "ACCELERATE_DYNAMO_": "models are not compiled here",
    "ACCELERATE_FP8_": _PRECISION,
    "ACCELERATE_DEEPSPEED_": _ALONE,
    "ACCELERATE_USE_": _ALONE,
    "FSDP_": _ALONE,
    "PARALLELISM_CONFIG_": _ALONE,
}


def overruling(*, several: bool = False) -> dict[str, str]:
    """Variables that are set and would change results, with what decides instead.

    `several`: this is one of several processes of a run, whose number is in these variables.
    """
    found = {}
    for name in sorted(os.environ):
        if several and name in _OF_RANKS:
            continue
        why = _OVERRULED.get(name) or next((why for start, why in _PREFIXES.items() if name.startswith(start)), None)
        if why is not None:
            found[name] = why
    return found


def neutralise(say: Callable[[str], None], *, several: bool = False) -> dict[str, str]:
    """Take such variables away and tell each; returns them."""
    why = overruling(several=several)
    taken = {name: os.environ.pop(name) for name in why}
    for name, value in taken.items():
        say(f"warning: {name}={value} is not read: {why[name]}")
    if "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE" in taken:  # torch has read it already
        torch.backends.cuda.matmul.allow_tf32 = False
    return taken


@contextmanager
def neutral_surroundings(say: Callable[[str], None], *, several: bool = False) -> Iterator[None]:
    """The same for as long as this lasts."""
    taken = neutralise(say, several=several)
    try:
        yield
    finally:
        os.environ.update(taken)
