"""Low-rank adapters (LoRA): put beside a model's frozen weights, saved, read back, merged into them.

Knows peft and the two files of an adapter. Knows nothing about games, training or where a base model lies.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import BitsAndBytesConfig, PreTrainedModel

from msgrpo_cli.common.files import read_json, write_text
from msgrpo_cli.common.text import one_line
from msgrpo_cli.config.schema import LoraConfig
from msgrpo_cli.errors import UsageError
from msgrpo_cli.runs.checkpoint import CONFIG, WEIGHTS

_BASE = "base_model_name_or_path"


def with_adapter(model: PreTrainedModel, lora: LoraConfig, seed: int) -> PeftModel:
    """The model, frozen, with a fresh adapter that changes nothing yet; its random half follows from `seed`.

    Raises UsageError where the model has no such modules.
    """
    torch.manual_seed(seed)
    settings = PeftLoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        target_modules=lora.target_modules,
        lora_dropout=0.0,  # dropout would train another policy than the one that was sampled from
        bias="none",
        task_type="CAUSAL_LM",
    )
    layers = [name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)]
    if (problem := lora.unfit(layers)) is not None:
        raise UsageError(problem)
    try:
        adapted = get_peft_model(model, settings)
    except (ValueError, TypeError, ImportError, NotImplementedError) as error:
        raise UsageError(f"lora.target_modules={lora.target_modules}: peft refuses it: {one_line(error)}") from error
    # Empty, peft does not ask the hub for the base at every save; `name_base` fills it in on disk.
    adapted.peft_config["default"].base_model_name_or_path = ""
    return adapted


def policy_of(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The transformers model that plays: with an adapter, the one whose layers hold it."""
    return cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model


def read_adapter(base: PreTrainedModel, folder: Path, *, merge: bool) -> PreTrainedModel:
    """`base` with the adapter in `folder` beside its weights, or merged into them; UsageError for a broken one."""
    try:
        adapted = PeftModel.from_pretrained(base, str(folder))
        read = adapted.merge_and_unload().requires_grad_(True) if merge else policy_of(adapted)  # peft froze it
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"{folder / WEIGHTS}: cannot be loaded: {reason}") from error
    return read


def name_base(folder: Path, path: str, revision: str | None) -> None:
    """Tell peft's own file where the base is, so that plain `from_pretrained` finds it."""
    found = read_json(folder / CONFIG)
    targets = found["target_modules"]
    found["target_modules"] = sorted(targets) if isinstance(targets, list) else targets  # peft's is a set
    settings = {**found, _BASE: path, "revision": revision}
    write_text(folder / CONFIG, json.dumps(settings, indent=2, sort_keys=True) + "\n")


def quantized(quantization: str) -> dict[str, Any]:
    """What `from_pretrained` needs to load frozen weights in 4 or 8 bits (QLoRA, arXiv 2305.14314)."""
    four = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    kinds = {"4bit": four, "8bit": BitsAndBytesConfig(load_in_8bit=True)}
    return {"quantization_config": kinds[quantization]}
