"""What a model's cache keeps, and what the model calls it.

Knows the caches of transformers. Knows nothing about what is read through them.
"""

from __future__ import annotations

import inspect

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer


def has_plain_cache(model: PreTrainedModel) -> bool:
    """Whether every layer keeps the keys and values of all tokens, at positions that are told to it.

    Then a beginning is computed once and handed to several rows by selecting them. Sliding windows and recurrent layers
    keep something else. GPT-Neo's windows keep all, but count from place to place, padding between them included.
    """
    layers = DynamicCache(config=model.config).layers
    if "local" in getattr(model.config, "attention_layers", ()):
        return False
    needed = {"position_ids", "logits_to_keep", cache_name(model)}
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers) and _told(model) >= needed


def cache_name(model: PreTrainedModel) -> str:
    """What a model calls the cache that is handed to it: transformers 5.24 renamed `past_key_values`."""
    return "cache" if "cache" in _told(model) else "past_key_values"


def _told(model: PreTrainedModel) -> set[str]:
    return set(inspect.signature(type(model).forward).parameters)


def held(layer: object) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Keys and values of a layer that keeps those of all tokens; None where it has none."""
    if not isinstance(layer, DynamicLayer) or layer.keys is None or layer.values is None or not layer.keys.numel():
        return None
    return layer.keys, layer.values
