"""Whether the tensors of a GGUF file are those that its header tells of.

Knows keys, and names and shapes of tensors. Reads no tensor. Knows nothing about files, torch or transformers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgrpo_cli.common.numbers import counted

_LIKE_LLAMA = ("llama", "qwen2", "qwen3")
"""Architectures whose keys tell the shapes of every layer."""
_LAYER = re.compile(r"blk\.(\d+)\.(.+)")
_KEYS = ("block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count")
Shape = tuple[int, ...]


def contradiction(architecture: str, metadata: Mapping[str, Any], shapes: Mapping[str, Shape]) -> str | None:
    """What is said and what is there, in words, where the one is not the other; None where they agree.

    Of other architectures than Llama's and Qwen's only the layers are counted.
    """
    said = {key: metadata.get(f"{architecture}.{key}") for key in (*_KEYS, "attention.head_count_kv")}
    layers = _layers(shapes)
    if architecture in _LIKE_LLAMA:
        for key in _KEYS:
            if not isinstance(value := said[key], int) or value < 1:
                told = "is missing" if value is None else f"is {value}"
                return f"{architecture}.{key} {told}, where a whole number from 1 is meant"
    count = said["block_count"]
    if (layers or architecture in _LIKE_LLAMA) and isinstance(count, int) and set(layers) != set(range(count)):
        return f"{architecture}.block_count says {counted(count, 'layer')}, and there are tensors of {len(layers)}"
    if architecture not in _LIKE_LLAMA:
        return None
    inner, outer = _expected(architecture, metadata, said)
    for layer, there in layers.items():
        experts = "ffn_gate_inp.weight" in there
        for name, shape in inner.items():
            if not (experts and name.startswith("ffn_")) and there.get(name) != shape:
                return _differs(f"blk.{layer}.{name}", there.get(name), shape, said)
    for name, shape in outer.items():
        if shapes.get(name) != shape and (name in shapes or name != "output.weight"):
            return _differs(name, shapes.get(name), shape, said)
    return None


def _layers(shapes: Mapping[str, Shape]) -> dict[int, dict[str, Shape]]:
    found: dict[int, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        if (part := _LAYER.fullmatch(name)) is not None:
            found.setdefault(int(part[1]), {})[part[2]] = shape
    return found


def _expected(
    architecture: str, metadata: Mapping[str, Any], said: Mapping[str, Any]
) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """The shapes of each layer's tensors, and of those that belong to none."""
    width, inside, heads = said["embedding_length"], said["feed_forward_length"], said["attention.head_count"]
    shared = said["attention.head_count_kv"] or heads
    key = metadata.get(f"{architecture}.attention.key_length") or width // heads
    value = metadata.get(f"{architecture}.attention.value_length") or width // heads
    inner: dict[str, Shape] = {
        "attn_norm.weight": (width,),
        "attn_q.weight": (heads * key, width),
        "attn_k.weight": (shared * key, width),
        "attn_v.weight": (shared * value, width),
        "attn_output.weight": (width, heads * value),
        "ffn_norm.weight": (width,),
        "ffn_gate.weight": (inside, width),
        "ffn_up.weight": (inside, width),
        "ffn_down.weight": (width, inside),
    }
    outer: dict[str, Shape] = {"output_norm.weight": (width,)}
    if (tokens := metadata.get("tokenizer.ggml.tokens")) is not None:
        outer |= {"token_embd.weight": (tokens, width), "output.weight": (tokens, width)}
    return inner, outer


def _differs(name: str, there: Shape | None, shape: Shape, said: Mapping[str, Any]) -> str:
    keys = ", ".join(f"{key}={value}" for key, value in said.items() if value is not None)
    found = "is missing" if there is None else f"is {_times(there)}"
    return f"{name} {found}, where its header asks for {_times(shape)} ({keys})"


def _times(shape: Shape) -> str:
    return " x ".join(map(str, shape))
