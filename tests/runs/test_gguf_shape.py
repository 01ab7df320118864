"""A header of a GGUF file and its tensors: where they agree, and what is told where they do not."""

from __future__ import annotations

from typing import Any

import pytest

from msgrpo_cli.runs.gguf_shape import contradiction

SAID: dict[str, Any] = {
    "llama.block_count": 2,
    "llama.context_length": 64,
    "llama.embedding_length": 8,
    "llama.feed_forward_length": 12,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": 3,
}
LAYER = {
    "attn_norm": (8,), "attn_q": (8, 8), "attn_k": (4, 8), "attn_v": (4, 8), "attn_output": (8, 8),
    "ffn_norm": (8,), "ffn_gate": (12, 8), "ffn_up": (12, 8), "ffn_down": (8, 12),
}  # fmt: skip
SHAPES: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (3, 8),
    "output_norm.weight": (8,),
    "rope_freqs.weight": (1,),
    **{f"blk.{layer}.{name}.weight": shape for layer in (0, 1) for name, shape in LAYER.items()},
}


def test_what_agrees_is_not_told() -> None:
    assert contradiction("llama", SAID, SHAPES) is None
    assert contradiction("llama", SAID, {**SHAPES, "output.weight": (3, 8)}) is None
    wide = {**SAID, "llama.attention.key_length": 2, "llama.attention.value_length": 2}
    assert contradiction("llama", wide, SHAPES) is None


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("block_count", 3, "llama.block_count says 3 layers, and there are tensors of 2"),
        ("block_count", 1, "llama.block_count says 1 layer, and there are tensors of 2"),
        ("block_count", None, "llama.block_count is missing, where a whole number from 1 is meant"),
        ("context_length", 0, "llama.context_length is 0, where a whole number from 1 is meant"),
        ("embedding_length", 16, "blk.0.attn_norm.weight is 8, where its header asks for 16 (block_count=2, "),
        ("feed_forward_length", 24, "blk.0.ffn_gate.weight is 12 x 8, where its header asks for 24 x 8 ("),
        ("attention.head_count", 2, "blk.0.attn_k.weight is 4 x 8, where its header asks for 8 x 8 ("),
        ("attention.head_count_kv", 4, "blk.0.attn_k.weight is 4 x 8, where its header asks for 8 x 8 ("),
    ],
)
def test_a_key_that_its_tensors_do_not_bear_out(key: str, value: int | None, said: str) -> None:
    found = contradiction("llama", {**SAID, f"llama.{key}": value}, SHAPES)
    assert found is not None and found.startswith(said)


def test_tensors_that_are_missing_and_a_vocabulary_of_another_size() -> None:
    lacking = {name: shape for name, shape in SHAPES.items() if name != "blk.1.ffn_up.weight"}
    assert str(contradiction("llama", SAID, lacking)).startswith("blk.1.ffn_up.weight is missing, where its header")
    more = {**SAID, "tokenizer.ggml.tokens": 5}
    assert str(contradiction("llama", more, SHAPES)).startswith(
        "token_embd.weight is 3 x 8, where its header asks for 5"
    )


def test_of_other_architectures_the_layers_are_counted() -> None:
    assert contradiction("other", {"other.block_count": 2}, SHAPES) is None
    assert contradiction("other", {"other.block_count": 1}, SHAPES) is not None
    assert contradiction("t5", {"t5.block_count": 6}, {"enc.blk.0.attn_q.weight": (8, 8)}) is None


def test_experts_have_tensors_of_their_own() -> None:
    experts = {
        **{name: shape for name, shape in SHAPES.items() if ".ffn_gate." not in name},
        **{f"blk.{layer}.ffn_gate_inp.weight": (4, 8) for layer in (0, 1)},
    }
    assert contradiction("llama", SAID, experts) is None
