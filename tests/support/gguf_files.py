"""A small Llama or Qwen 2 with random weights and a tokenizer of bytes, written as a GGUF file by the package gguf."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

from .templates import CHATML

gguf = pytest.importorskip("gguf")

CONTEXT = 1024
_BYTES = sorted(bytes_to_unicode().values())
_MERGES = ["u p", "l e", "le f", "lef t", "r i"]
_MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [*_BYTES, *(merge.replace(" ", "") for merge in _MERGES), *_MARKS]
_NORMAL, _CONTROL = 1, 3
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_OUTER = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


def small_model(kind: str = "llama") -> Any:
    """The weights as transformers has them."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        vocab_size=len(TOKENS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5},
        rms_norm_eps=1e-5,
        bos_token_id=TOKENS.index("<|im_start|>"),
        eos_token_id=TOKENS.index("<|im_end|>"),
        pad_token_id=TOKENS.index("<|endoftext|>"),
        attention_dropout=0.0,
    )
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # wide enough that tokens differ in probability, and no two weights are alike
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.1 + (parameter.dim() == 1))
    return model


def write_gguf(
    file: Path,
    model: Any,
    stored: Callable[[np.ndarray], np.ndarray] = lambda weights: weights,
    *,
    quantized: str | None = None,
    architecture: str | None = None,
    keys: Callable[[Any], None] = lambda writer: None,
) -> Path:
    """`stored`: matrices as they are to be stored. `quantized`: matrices in blocks of this type. `keys` adds keys."""
    config = model.config
    writer = gguf.GGUFWriter(str(file), architecture or config.model_type)
    writer.add_type("model")
    writer.add_license("apache-2.0")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([_CONTROL if token in _MARKS else _NORMAL for token in TOKENS])
    writer.add_token_merges(_MERGES)
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_pad_token_id(config.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)
    keys(writer)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":  # the embeddings once more
            weights = _as_llama_cpp(name, tensor.detach().float().numpy(), config)
            if quantized and weights.ndim > 1:
                kind = gguf.GGMLQuantizationType[quantized]
                writer.add_tensor(_name(name), gguf.quantize(weights, kind), raw_dtype=kind)
            else:
                writer.add_tensor(_name(name), stored(weights) if weights.ndim > 1 else weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _name(name: str) -> str:
    if name in _OUTER:
        return _OUTER[name]
    layer, _, rest = name.removeprefix("model.layers.").partition(".")
    part, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{_NAMES[part]}.{kind}"


def _as_llama_cpp(name: str, weights: np.ndarray, config: Any) -> np.ndarray:
    """A Llama's queries and keys lie there in pairs: first and second half of a head's rows taken by turns."""
    heads = {"q_proj.weight": config.num_attention_heads, "k_proj.weight": config.num_key_value_heads}
    count = next((heads[end] for end in heads if name.endswith(end)), None)
    if count is None or config.model_type != "llama":
        return np.ascontiguousarray(weights)
    halves = weights.reshape(count, 2, weights.shape[0] // count // 2, *weights.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weights.shape))
