"""How many parameters a model has, without loading it.

Knows the header of a safetensors file and the shapes of Llama-like decoders. Knows nothing about torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .model_paths import architecture_file, is_local, local_path
from .schema import ModelConfig


def parameter_count(model: ModelConfig) -> int | None:
    """From the weights' headers or from the architecture; None where neither is on this machine."""
    named = _named_architecture(model)
    if is_local(model.path):
        folder = Path(local_path(model.path))
        weights = sorted(folder.glob("model*.safetensors"))
        if weights:
            return sum(map(_count_in_file, weights))
        return None
    return count_of_architecture(named) if named else None


def _named_architecture(model: ModelConfig) -> dict[str, Any] | None:
    """The architecture that ships with the package, if `model.path` still is that model's own."""
    file = architecture_file(model.name)
    if file is None:
        return None
    architecture: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return architecture if architecture["_name_or_path"] == model.path else None


def _count_in_file(file: Path) -> int:
    """A safetensors file opens with the length of a JSON header (8 bytes, little endian) that holds every shape."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


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
