"""Weights that are shared out: each rank holds its part of every weight, gradient and optimizer number (torch's FSDP2).

Knows torch's `fully_shard` and its distributed checkpoints. Knows nothing about rows, losses, games or runs.

Training gathers the weights of a layer when it reads them. While answers are sampled every rank holds all weights at
once (`whole`), for it asks its own texts, as many as it likes: nothing may wait for another rank then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
FOLDER = "optimizer"
"""Of a checkpoint: where each rank writes its part of the optimizer's numbers."""


def share_out(model: PreTrainedModel, half: torch.dtype | None) -> None:
    """Leave this rank its part of every weight: layer by layer, and of what lies around the layers.

    `half`: what layers are gathered and computed in, where that is less than their weights. Raises RuntimeError where a
    weight is still whole afterwards.
    """
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32) if half else MixedPrecisionPolicy()
    layers = set(model._no_split_modules or ())
    for module in list(model.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    left = [name for name, weights in model.named_parameters() if not isinstance(weights, DTensor)]
    if left:
        raise RuntimeError(f"{len(left)} weights could not be shared out, such as {left[0]}")
    _parts(model)[0]._get_fsdp_state()._lazy_init()  # else whichever layer is read first takes itself for the whole


def is_shared_out(model: torch.nn.Module) -> bool:
    """Whether this rank has but a part of the weights."""
    return isinstance(model, FSDPModule)


@contextmanager
def whole(model: torch.nn.Module) -> Iterator[None]:
    """Within, every rank has all weights, and may read the model as often as it likes. All ranks enter and leave."""
    parts = _parts(model)
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not parts[0], recurse=False)


@contextmanager
def read_alone(model: torch.nn.Module) -> Iterator[None]:
    """Within, any rank may read the model by itself, shared out or not. All ranks enter and leave."""
    with whole(model) if is_shared_out(model) else nullcontext():
        yield


def part_again(model: torch.nn.Module) -> None:
    """Each rank has but its part of every weight, whatever was read last."""
    for part in _parts(model):
        part.reshard()


def whole_weights(model: PreTrainedModel | PeftModel) -> dict[str, Any]:
    """All weights by name, each once, on the CPU of the first rank; nothing on the others. All ranks ask."""
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    return {name: value for name, value in get_model_state_dict(model, options=_WHOLE).items() if name not in tied}


def take_weights(model: torch.nn.Module, stored: Mapping[str, Any]) -> None:
    """Take this rank's part of these weights; of a name that is not among them it keeps what it has."""
    set_model_state_dict(model, dict(stored), options=StateDictOptions(full_state_dict=True, strict=False))


def adapter_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Of a peft checkpoint, by the names that they have in the model."""
    stored = load_file(checkpoint / "adapter_model.safetensors")
    return {f"{name.removesuffix('weight')}default.weight": value for name, value in stored.items()}


def save_optimizer(model: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: Path, group: Any) -> None:
    """Every rank writes its part."""
    state = {"optimizer": get_optimizer_state_dict(model, optimizer)}
    state_dict_saver.save(state, checkpoint_id=folder / FOLDER, process_group=group)


def load_optimizer(model: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: Path, group: Any) -> None:
    """Every rank reads its part, whoever wrote it: there may have been more ranks, or fewer."""
    state = {"optimizer": get_optimizer_state_dict(model, optimizer)}
    state_dict_loader.load(state, checkpoint_id=folder / FOLDER, process_group=group)
    set_optimizer_state_dict(model, optimizer, state["optimizer"])


def _parts(model: torch.nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]
