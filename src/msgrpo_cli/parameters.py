"""How many parameters a model has, without loading it.

Knows the header of a safetensors file and the shapes of Llama-like decoders. Knows nothing about torch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgrpo_cli.config.schema import LoraConfig, ModelConfig
from msgrpo_cli.runs.pretrained import architecture_file, is_local, local_path

_MATRIX = 2
_NO_LAYERS = {"model.embed_tokens", "lm_head"}  # matrices that `all-linear` leaves alone


Shapes = dict[str, tuple[int, ...]]
"""The shape of every weight, by its name as it is stored."""


def parameter_count(model: ModelConfig) -> int | None:
    """From the weights' headers or from the architecture; None where neither is on this machine."""
    named = _named_architecture(model)
    if is_local(model.path):
        shapes = _stored_shapes(Path(local_path(model.path)))
        return sum(map(math.prod, shapes.values())) if shapes else None
    return count_of_architecture(named) if named else None


def adapter_count(model: ModelConfig, lora: LoraConfig) -> int | None:
    """Parameters that a LoRA run trains; None where the model's layers are not known without loading it."""
    named = _named_architecture(model)
    shapes = _stored_shapes(Path(local_path(model.path))) if is_local(model.path) else linear_shapes(named or {})
    layers = {name.removesuffix(".weight"): shape for name, shape in shapes.items() if len(shape) == _MATRIX}
    linear = {name: shape for name, shape in layers.items() if name.endswith("_proj")}
    if not linear or set(layers) - set(linear) - _NO_LAYERS:
        return None  # not Llama-like
    return adapter_size(linear, lora)


def adapter_size(linear: Shapes, lora: LoraConfig) -> int:
    """Parameters of the adapters beside those of these matrices that are targets."""
    targets = lora.target_modules
    named = {name.removesuffix(".weight"): shape for name, shape in linear.items()}
    return sum(lora.r * sum(shape) for name, shape in named.items() if _is_target(name, targets))


def _is_target(name: str, targets: str | list[str]) -> bool:
    """peft's rule: a list holds whole names or their last parts, a text is a regular expression for the whole name."""
    if isinstance(targets, str):
        return targets == "all-linear" or re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _named_architecture(model: ModelConfig) -> dict[str, Any] | None:
    """The architecture that ships with the package, if `model.path` still is that model's own."""
    file = architecture_file(model.name)
    if file is None:
        return None
    architecture: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return architecture if architecture["_name_or_path"] == model.path else None


def _stored_shapes(folder: Path) -> Shapes:
    """A safetensors file opens with the length of a JSON header (8 bytes, little endian) that holds every shape."""
    shapes: Shapes = {}
    for file in sorted(folder.glob("model*.safetensors")):
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length))
        shapes |= {name: tuple(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}
    return shapes


def linear_shapes(config: Mapping[str, Any]) -> Shapes:
    """The matrices of a Llama-like decoder's layers, as they are stored; none for an empty config."""
    if not config:
        return {}
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    attention = {"q": (queries, hidden), "k": (keys, hidden), "v": (keys, hidden), "o": (hidden, queries)}
    forward = {"gate": (inner, hidden), "up": (inner, hidden), "down": (hidden, inner)}
    parts = {f"self_attn.{name}": shape for name, shape in attention.items()}
    parts |= {f"mlp.{name}": shape for name, shape in forward.items()}
    layers = range(config["num_hidden_layers"])
    return {f"model.layers.{i}.{name}_proj.weight": shape for i in layers for name, shape in parts.items()}


def count_of_architecture(config: Mapping[str, Any]) -> int:
    """Parameters of a Qwen2 or Llama decoder: attention, gated feed-forward and two norms a layer, embeddings."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    queries, keys = heads * head, config["num_key_value_heads"] * head
    biases = queries + 2 * keys if config["model_type"] == "qwen2" else 0
    attention = hidden * queries + 2 * hidden * keys + queries * hidden + biases
    layer = attention + 3 * hidden * config["intermediate_size"] + 2 * hidden
    embeddings = config["vocab_size"] * hidden * (1 if config["tie_word_embeddings"] else 2)
    return int(config["num_hidden_layers"] * layer + embeddings + hidden)
