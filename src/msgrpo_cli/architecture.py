"""The shape of a model, from its config.json alone: what decides memory and time, and nothing else.

Knows the files of a model folder and the names in a decoder's config.json. Loads no weights and asks no device;
transformers counts the parameters (on the meta device) only where the formula of `parameters` does not hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgrpo_cli.config.schema import ModelConfig
from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.parameters import Shapes, count_of_architecture, linear_shapes, parameter_count
from msgrpo_cli.runs.checkpoint import base_of, is_adapter, read_metadata
from msgrpo_cli.runs.pretrained import architecture_file, fetched, is_local, local_path

_NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
_FORMULA = {"qwen2", "llama"}  # whose parameters `count_of_architecture` counts


@dataclass(frozen=True)
class Architecture:
    """A decoder with attention and a gated feed-forward network in every layer."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    parameters: int

    @property
    def queries(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all heads that keep keys, and of those that keep values."""
        return self.kv_heads * self.head_dim

    @property
    def embedding(self) -> int:
        """Parameters of one embedding matrix."""
        return self.vocabulary * self.hidden

    @property
    def in_layers(self) -> int:
        """Parameters that every token passes through, embeddings left out."""
        return self.parameters - self.embedding * (1 if self.tied else 2)


def architecture_of(model: ModelConfig, *, quick: bool = False) -> Architecture | None:
    """Of the chosen model. `quick` answers None where parameters cannot be counted without importing transformers.

    Raises UsageError where its config.json is not on this machine and the hub does not give it, or names no decoder.
    """
    model, settings = _settings_of(model, quick=quick)
    if settings is None:
        if quick:
            return None
        raise UsageError(
            f"model.path={model.path}: its architecture is not known here; give a local folder that holds its "
            "config.json (model.path=DIR; weights are not needed), or a model whose architecture ships with msgrpo"
        )
    whole = {**settings, **(settings.get("text_config") or {})}
    if missing := [name for name in _NEEDED if not isinstance(whole.get(name), int)]:
        if quick:
            return None
        raise UsageError(f"model.path={model.path}: its config.json has no {missing[0]}; only decoders are planned for")
    whole.setdefault("tie_word_embeddings", False)
    if not whole.get("num_key_value_heads"):
        whole["num_key_value_heads"] = whole["num_attention_heads"]
    parameters = parameter_count(model) or _counted(whole, settings, quick)
    if parameters is None:
        return None
    return Architecture(
        layers=whole["num_hidden_layers"],
        hidden=whole["hidden_size"],
        inner=whole["intermediate_size"],
        heads=whole["num_attention_heads"],
        kv_heads=whole["num_key_value_heads"],
        head_dim=whole.get("head_dim") or whole["hidden_size"] // whole["num_attention_heads"],
        vocabulary=whole["vocab_size"],
        tied=bool(whole["tie_word_embeddings"]),
        parameters=parameters,
    )


def matrices_of(shape: Architecture) -> Shapes:
    """The matrices of its layers, by name, as `parameters` counts adapters beside them."""
    names = {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "num_hidden_layers": shape.layers,
    }
    return linear_shapes(names)


def _settings_of(model: ModelConfig, *, quick: bool) -> tuple[ModelConfig, dict[str, Any] | None]:
    """What config.json says, and of which model: for an adapter, of its base."""
    folder = Path(local_path(model.path))
    if is_local(model.path):
        if is_adapter(folder):
            return _settings_of(base_of(folder, read_metadata(folder)), quick=quick)
        return model, _read(folder / "config.json")
    shipped = architecture_file(model.name)
    if shipped is not None and (model.init == "random" or _read(shipped)["_name_or_path"] == model.path):
        return model, _read(shipped)
    if quick:
        return model, None
    try:
        file = fetched(model.path, model.revision, "config.json")
    except RunError:  # the hub does not answer
        file = None
    return model, _read(file) if file is not None else None


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise UsageError(f"model.path={file.parent}: no model here (no {file})") from problem
    except (UnicodeDecodeError, json.JSONDecodeError) as problem:
        raise UsageError(f"{file}: not JSON: {problem}") from problem
    if not isinstance(found, dict):
        raise UsageError(f"{file}: must hold an object")
    return found


def _counted(whole: Mapping[str, Any], settings: Mapping[str, Any], quick: bool) -> int | None:
    biased = whole.get("attention_bias") or whole.get("mlp_bias")
    if whole.get("model_type") in _FORMULA and not biased:
        return count_of_architecture(whole)
    if quick:
        return None
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings))
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise UsageError(f"model: transformers makes no model of its config.json: {problem}") from problem
    return int(sum(parameter.numel() for parameter in model.parameters()))
