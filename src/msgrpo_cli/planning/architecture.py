"""The shape of a model, from its config.json or a GGUF file's header: what decides memory, time and parameters.

Knows the files of a model folder and the names in a decoder's config.json. Loads no weights and asks no device;
transformers counts the parameters (on the meta device) only where the formula for Llama-like decoders does not hold.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from msgrpo_cli.config.schema import LoraConfig, ModelConfig
from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.runs import gguf
from msgrpo_cli.runs.checkpoint import base_of, is_adapter, is_checkpoint, plain_base, read_metadata
from msgrpo_cli.runs.pretrained import architecture_file, fetched, is_local, local_path, problem_with_file

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
        place = "its header" if gguf.is_gguf(model.path) else "its config.json"
        raise UsageError(f"model.path={model.path}: {place} has no {missing[0]}; only decoders are planned for")
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
    """The matrices of its layers, by name, beside which adapters are counted."""
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
            ours = is_checkpoint(folder)
            base = base_of(folder, read_metadata(folder)) if ours else plain_base(folder, model)
            return _settings_of(base, quick=quick)
        return model, gguf.settings_of(folder) if gguf.is_gguf(model.path) else _read(folder / "config.json")
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


_MATRIX = 2
_FUSED_IN = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
_FUSED = "out_proj"
"""In these architectures a fused kernel reads this layer's own weights, past an adapter: peft refuses one there."""
_NO_LAYERS = {"model.embed_tokens", "lm_head"}  # matrices that `all-linear` leaves alone
Shapes = dict[str, tuple[int, ...]]
"""The shape of every weight, by its name as it is stored."""


def parameter_count(model: ModelConfig) -> int | None:
    """From the weights' headers or from the architecture; None where neither is on this machine."""
    named = _named_architecture(model)
    if is_local(model.path):
        shapes = _stored_shapes(Path(local_path(model.path)))
        return sum(map(math.prod, shapes.values())) if shapes else None
    return count_of_architecture(named) if named else None


def adapter_count(model: ModelConfig, lora: LoraConfig) -> int | None:
    """Parameters that a LoRA run trains; None where the model's layers are not known without loading it.

    Raises UsageError where a target fits none of them, or is one that peft refuses.
    """
    named = _named_architecture(model)
    shapes = _stored_shapes(Path(local_path(model.path))) if is_local(model.path) else linear_shapes(named or {})
    layers = {name.removesuffix(".weight"): shape for name, shape in shapes.items() if len(shape) == _MATRIX}
    _refuse_fused(model, lora, list(layers))
    linear = {name: shape for name, shape in layers.items() if name.endswith("_proj")}
    if not linear or set(layers) - set(linear) - _NO_LAYERS:
        return None  # not Llama-like
    if (problem := lora.unfit(linear)) is not None:
        raise UsageError(problem)
    return adapter_size(linear, lora)


def _refuse_fused(model: ModelConfig, lora: LoraConfig, layers: list[str]) -> None:
    """Raise UsageError where peft would: an adapter is meant for a layer that a fused kernel reads by itself."""
    folder = Path(local_path(model.path))
    named = (folder / "config.json").is_file() or is_adapter(folder) or gguf.is_gguf(model.path)
    if is_local(model.path) and not named:
        return
    _, settings = _settings_of(model, quick=True)
    names = [name for name in layers if name.rpartition(".")[2] == _FUSED] or [f"backbone.layers.0.mixer.{_FUSED}"]
    if (settings or {}).get("model_type") in _FUSED_IN and any(_is_target(name, lora.target_modules) for name in names):
        raise UsageError(
            f"lora.target_modules={lora.target_modules}: peft refuses it: in this architecture a fused kernel would "
            f"pass over the adapter of {_FUSED}; give a list without it, such as lora.target_modules=[in_proj]"
        )


def adapter_size(linear: Shapes, lora: LoraConfig) -> int:
    """Parameters of the adapters beside those of these matrices that are targets."""
    targets = lora.target_modules
    named = {name.removesuffix(".weight"): shape for name, shape in linear.items()}
    return sum(lora.r * sum(shape) for name, shape in named.items() if _is_target(name, targets))


def _is_target(name: str, targets: str | list[str]) -> bool:
    """peft's rule: a list holds whole names or their last parts, a text is a regular expression for the whole name."""
    if isinstance(targets, str):
        return targets == "all-linear" or re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _named_architecture(model: ModelConfig) -> dict[str, Any] | None:
    """The architecture that ships with the package, if `model.path` still is that model's own."""
    file = architecture_file(model.name)
    if file is None:
        return None
    architecture: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return architecture if architecture["_name_or_path"] == model.path else None


def _stored_shapes(folder: Path) -> Shapes:
    """From the headers alone; no tensor is read. Raises UsageError where a file is damaged."""
    if gguf.is_gguf(str(folder)):
        return gguf.shapes_of(folder)
    shapes: Shapes = {}
    for file in sorted(folder.glob("model*.safetensors")):
        if (problem := problem_with_file(file)) is not None:
            raise UsageError(f"model.path={folder}: {problem}")
        with safe_open(file, framework="np") as weights:
            shapes |= {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    return shapes


def linear_shapes(config: Mapping[str, Any]) -> Shapes:
    """The matrices of a Llama-like decoder's layers, as they are stored; none for an empty config."""
    if not config:
        return {}
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    attention = {"q": (queries, hidden), "k": (keys, hidden), "v": (keys, hidden), "o": (hidden, queries)}
    forward = {"gate": (inner, hidden), "up": (inner, hidden), "down": (hidden, inner)}
    parts = {f"self_attn.{name}": shape for name, shape in attention.items()}
    parts |= {f"mlp.{name}": shape for name, shape in forward.items()}
    layers = range(config["num_hidden_layers"])
    return {f"model.layers.{i}.{name}_proj.weight": shape for i in layers for name, shape in parts.items()}


def count_of_architecture(config: Mapping[str, Any]) -> int:
    """Parameters of a Qwen2 or Llama decoder: attention, gated feed-forward and two norms a layer, embeddings."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    queries, keys = heads * head, config["num_key_value_heads"] * head
    biases = queries + 2 * keys if config["model_type"] == "qwen2" else 0
    attention = hidden * queries + 2 * hidden * keys + queries * hidden + biases
    layer = attention + 3 * hidden * config["intermediate_size"] + 2 * hidden
    embeddings = config["vocab_size"] * hidden * (1 if config["tie_word_embeddings"] else 2)
    return int(config["num_hidden_layers"] * layer + embeddings + hidden)
