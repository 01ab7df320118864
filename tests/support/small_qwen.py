"""Qwen2 checkpoints that are made here and lie on a disk as the real ones would: less deep, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from msgrpo_cli.models.loading import byte_tokenizer
from support.places import ROOT

_NARROW = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
_ARCHITECTURES = ROOT / "src" / "msgrpo_cli" / "assets" / "architectures"


def small_qwen(folder: Path, **generation: Any) -> Path:
    """Two narrow layers and a chat template; `generation` goes into its generation config."""
    return _saved(folder, {**_NARROW, "num_hidden_layers": 2}, generation)


def qwen_of_one_layer(folder: Path, name: str) -> Path:
    """A named model in its real width with one layer instead of all, and a token for every byte."""
    settings = json.loads((_ARCHITECTURES / f"{name}.json").read_text(encoding="utf-8"))
    for key in ("_name_or_path", "architectures", "model_type", "bos_token_id", "dtype"):
        settings.pop(key, None)
    return _saved(folder, {**settings, "num_hidden_layers": 1}, {})


def _saved(folder: Path, settings: dict[str, Any], generation: dict[str, Any]) -> Path:
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = Qwen2ForCausalLM(Qwen2Config(**{**settings, **ends, "vocab_size": len(tokenizer)}))
    for key, value in generation.items():
        setattr(model.generation_config, key, value)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
