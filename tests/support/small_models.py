"""Small random models of several architectures: with caches of every kind, with dropout, with an adapter."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from .parts import small_model

_SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def llama() -> Any:
    return small_model()[0]


def qwen2() -> Any:
    torch.manual_seed(2)
    return Qwen2ForCausalLM(Qwen2Config(**_SIZES, attention_dropout=0.0))


def eager() -> Any:
    model = llama()
    model.set_attn_implementation("eager")
    return model


def sliding() -> Any:
    torch.manual_seed(2)
    return MistralForCausalLM(MistralConfig(**_SIZES, sliding_window=4))


def half_sliding() -> Any:
    """One layer that keeps everything, one that does not."""
    model = Qwen2ForCausalLM(Qwen2Config(**_SIZES, use_sliding_window=True, sliding_window=4, max_window_layers=1))
    assert model.config.layer_types == ["full_attention", "sliding_attention"]
    return model


def local() -> Any:
    """Windows that do not show in its cache."""
    torch.manual_seed(2)
    kinds: Any = [[["global", "local"], 1]]
    return GPTNeoForCausalLM(
        GPTNeoConfig(
            vocab_size=64, hidden_size=32, num_layers=2, num_heads=4, max_position_embeddings=64, window_size=4,
            attention_types=kinds, bos_token_id=0, eos_token_id=5, attention_dropout=0.0, embed_dropout=0.0,
            resid_dropout=0.0,
        )
    )  # fmt: skip


def biased() -> Any:
    """Positions are biases of attention, made of its mask."""
    torch.manual_seed(2)
    return FalconForCausalLM(
        FalconConfig(
            vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True, bos_token_id=0,
            eos_token_id=5, attention_dropout=0.0, hidden_dropout=0.0, new_decoder_architecture=False,
        )
    )  # fmt: skip


def recurrent() -> Any:
    """A layer whose state cannot be handed to several rows, and one of attention."""
    torch.manual_seed(2)
    return Lfm2ForCausalLM(Lfm2Config(**_SIZES, layer_types=["conv", "full_attention"]))


def without_positions() -> Any:
    """Bloom: a plain cache, but positions follow from the padded mask and cannot be told."""
    return BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4))


def attention_dropping_out() -> Any:
    return Qwen2ForCausalLM(Qwen2Config(**_SIZES, attention_dropout=0.1))


def adapter_dropping_out() -> Any:
    return adapted(lora_dropout=0.1)


def adapted(**settings: Any) -> Any:
    torch.manual_seed(2)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **settings)
    model = get_peft_model(llama(), config)
    with torch.no_grad():  # a fresh adapter has no gradient on one side
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.1)
    return model
