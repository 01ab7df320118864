"""Whether a model's cache can be shared between rows.

Knows transformers' caches. Knows nothing about prompts, answers or training.
"""

from __future__ import annotations

import inspect

from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

_NEEDED = {"position_ids", "past_key_values", "logits_to_keep"}


def has_plain_cache(model: PreTrainedModel) -> bool:
    """Whether every layer keeps the keys and values of all tokens, at positions that are told to it.

    Then a beginning is computed once and handed to several rows by selecting them. Sliding windows and recurrent layers
    keep something else.
    """
    layers = DynamicCache(config=model.config).layers
    told = inspect.signature(type(model).forward).parameters
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers) and set(told) >= _NEEDED
