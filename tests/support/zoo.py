"""Tiny random checkpoints of real architectures, with chat templates of the kinds that they ship with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig

from msgrpo_cli.models.dropout import active_dropout, switch_off
from msgrpo_cli.training.loss.experts import tell_experts
from msgrpo_cli.training.loss.shared_logprobs import Sharing

from .templates import CHATML, DATED, FORGETS_SYSTEM, NO_SYSTEM, THINKING, tokenizer

_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 1024}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}


@dataclass(frozen=True)
class Animal:
    """One architecture: transformers' model type, what its config says, and the template that such models have."""

    model_type: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = CHATML
    usual_sizes: bool = True
    no_adapter: tuple[str, str] | None = None
    """Where adapters are refused: a word of the reason that is given, and the whole of it for people."""

    def made(self) -> tuple[Any, PreTrainedTokenizerFast]:
        """Random weights, and a tokenizer of bytes."""
        words = tokenizer(self.template, "<|eot_id|>", "<think>", "</think>")
        sizes = {**(_SIZES if self.usual_sizes else {}), **self.settings}
        ends = {
            "vocab_size": len(words),
            "bos_token_id": words.convert_tokens_to_ids("<|im_start|>"),
            "eos_token_id": words.eos_token_id,
            "pad_token_id": words.pad_token_id,
        }
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(self.model_type, **sizes, **ends))
        with torch.no_grad():  # wide enough that tokens differ in probability
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(3.0)
        return model, words

    def save(self, folder: Path) -> Path:
        """As a checkpoint on a disk."""
        for part in self.made():
            part.save_pretrained(folder)
        return folder


_MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
ZOO: Mapping[str, Animal] = {
    "llama-3": Animal("llama", {"rope_theta": 5e5}, DATED),
    "mistral": Animal("mistral", {"sliding_window": 16}, NO_SYSTEM),
    "gemma-2": Animal("gemma2", {"head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8}, NO_SYSTEM),
    "gemma-3": Animal("gemma3_text", {"head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8}, FORGETS_SYSTEM),
    "qwen-2.5": Animal("qwen2"),
    "qwen-3": Animal("qwen3", {"head_dim": 8}, THINKING),
    "qwen-3-moe": Animal("qwen3_moe", {"head_dim": 8, "num_experts": 4, **_MOE}, THINKING),
    "smollm-2": Animal("llama", {"tie_word_embeddings": True}),
    "smollm-3": Animal("smollm3", {}, THINKING),
    "phi-3": Animal("phi3", {"original_max_position_embeddings": 1024}),
    "olmo-2": Animal("olmo2"),
    "granite": Animal("granite", {"logits_scaling": 2.0}, DATED),
    "granite-moe": Animal("granitemoe", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "granite-hybrid": Animal(
        "granitemoehybrid",
        {"layer_types": ["mamba", "attention"], "num_local_experts": 0, "shared_intermediate_size": 48, **_MAMBA},
    ),
    "cohere": Animal("cohere", {}, FORGETS_SYSTEM),
    "mixtral": Animal("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}, NO_SYSTEM),
    "mamba-2": Animal(
        "mamba2",
        {
            "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1,
            "expand": 2, "chunk_size": 16,
        },
        usual_sizes=False,
        no_adapter=("out_proj", "refused by peft: the fused kernel would pass over the adapter of `out_proj`"),
    ),
    "lfm-2": Animal("lfm2", {"layer_types": ["conv", "full_attention"]}),
    "gpt-2": Animal("gpt2", _GPT2, None, usual_sizes=False),
    "opt": Animal(
        "opt",
        {
            "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "max_position_embeddings": 1024, "word_embed_proj_dim": 32,
        },
        None,
        usual_sizes=False,
    ),
    "falcon": Animal(
        "falcon",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": False},
        None,
        usual_sizes=False,
    ),
}  # fmt: skip

TITLES = {
    "llama-3": "Llama 3", "mistral": "Mistral", "gemma-2": "Gemma 2", "gemma-3": "Gemma 3", "qwen-2.5": "Qwen 2.5",
    "qwen-3": "Qwen 3", "qwen-3-moe": "Qwen 3 MoE", "smollm-2": "SmolLM 2", "smollm-3": "SmolLM 3", "phi-3": "Phi 3",
    "olmo-2": "OLMo 2", "granite": "Granite", "granite-moe": "Granite MoE", "granite-hybrid": "Granite hybrid",
    "cohere": "Cohere", "mixtral": "Mixtral", "mamba-2": "Mamba 2", "lfm-2": "LFM 2", "gpt-2": "GPT-2", "opt": "OPT",
    "falcon": "Falcon",
}  # fmt: skip


def table() -> str:
    """What docs/models.md says of the zoo, as the models themselves tell it; the slow tests hold that they train."""
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for name, animal in ZOO.items():
        kinds.setdefault(_kind(animal), []).append(TITLES[name])
    lines = [f"| {', '.join(names)} | {' | '.join(kind)} |" for kind, names in kinds.items()]
    heading = "| architecture | trained, resumed, evaluated, exported | adapter | equal prompts are read once |"
    return "\n".join([heading, "|---|---|---|---|", *lines])


def _kind(animal: Animal) -> tuple[str, str, str]:
    """Training, adapters, and the sharing of prompts, in words."""
    model, _ = animal.made()
    drops = bool(active_dropout(model.train()))
    switch_off(model)
    shares = Sharing.of(model, checkpointing=False) is not None
    arguments = GRPOConfig(router_aux_loss_coef=None, use_cpu=True, bf16=False)
    tell_experts(model, arguments)
    has_experts = bool(getattr(model.config, "num_experts", None))
    separate = "with `trainer.router_aux_loss_coef=0`: else TRL computes the auxiliary loss in separate rows"
    return (
        "with `trainer.disable_dropout=true`" if drops else "yes",
        animal.no_adapter[1] if animal.no_adapter else "yes",
        "no: not all keys and values are kept" if not shares else separate if has_experts else "yes",
    )
