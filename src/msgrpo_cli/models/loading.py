"""Finding and loading models: embedded, local, from the hub, with random weights; and the one a run starts from.

Knows transformers' loading functions, where weights lie, a tokenizer of bytes for random weights, and where a run keeps
a base that it made itself. Knows nothing about games or training.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from msgrpo_cli.common.files import whole_directory
from msgrpo_cli.common.text import one_line
from msgrpo_cli.config.schema import ModelConfig, RunConfig
from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.runs import gguf as gguf_files
from msgrpo_cli.runs.checkpoint import CONFIG as ADAPTER
from msgrpo_cli.runs.checkpoint import base_of, is_adapter, is_checkpoint, own_base, plain_base, read_metadata
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.pretrained import architecture_file, is_local, local_path, reach

from . import gguf
from .adapters import read_adapter, with_adapter
from .conversation import PLAIN_TEMPLATE
from .precision import check_quantization, device_for


def quiet_libraries() -> None:
    """Warnings between transformers and TRL are no business of a user's."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl)\.")


def load_model(
    config: ModelConfig, seed: int = 0, *, merge: bool = False, quantization: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, on the CPU, and its tokenizer. With `init=random` the weights follow from `seed`.

    Of an adapter checkpoint the base is loaded too; the adapter stays beside it, which is what was trained and scored,
    or is merged into it. An adapter of anybody else's is always merged. Raises UsageError for a directory that holds no
    model, RunError for a hub that cannot be reached.
    """
    source = local_path(config.path)
    if is_adapter(Path(source)) and not is_checkpoint(Path(source)):
        named = plain_base(Path(source), config)
        try:
            base, _ = load_model(named, seed)
        except RunError as problem:  # the hub has no such model
            remedy = f"where it is a directory, write its absolute path into {Path(source) / ADAPTER}"
            raise RunError(f"model.path={config.path}: an adapter of {named.path}, {problem}; {remedy}") from problem
        return read_adapter(base, Path(source), merge=True), load_tokenizer(config)
    if is_adapter(Path(source)):
        return _adapted(Path(source), config, merge), _tokenizer(source, None, config.chat_template_file)
    if config.init == "random":
        torch.manual_seed(seed)
        architecture = _architecture(config)
        architecture._name_or_path = config.path
        kwargs = _attention(config)
        try:
            model: PreTrainedModel = AutoModelForCausalLM.from_config(
                architecture, dtype=_dtype(config, torch.float32), **kwargs
            )
        except ImportError as error:  # of a package that an attention wants
            raise UsageError(f"model.path={config.path}: cannot be made: {one_line(error)}") from error
        tokenizer: PreTrainedTokenizerBase = load_tokenizer(config)
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.config.eos_token_id = tokenizer.eos_token_id
        return model, tokenizer
    if not is_local(config.path):
        source = reach(config.path, config.revision)
    try:
        read = gguf.read_model if gguf_files.is_gguf(source) else AutoModelForCausalLM.from_pretrained
        loaded: Any = read(
            source,
            dtype=_dtype(config, torch.float32),
            revision=config.revision or "main",
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **_attention(config),
            **_quantization(quantization),
        )
        model, found = loaded
        if found["missing_keys"]:  # transformers would go on with random numbers there
            raise ValueError(f"its weights lack {min(found['missing_keys'])}")
        tokenizer = _tokenizer(source, config.revision, config.chat_template_file)
    except ImportError as error:  # of a package that quantized weights or an attention want
        raise UsageError(f"model.path={config.path}: cannot be loaded: {one_line(error)}") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        kind = UsageError if is_local(config.path) else RunError
        raise kind(f"model.path={config.path}: cannot be loaded: {_reason(error)}") from error
    return model, tokenizer


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer alone. Raises UsageError where it is not fit to play, OSError or ValueError where it is broken."""
    source = local_path(config.path)
    if config.init == "random" and not _has_tokenizer(source):
        return byte_tokenizer()
    if is_adapter(Path(source)) and not _has_tokenizer(source):
        return load_tokenizer(plain_base(Path(source), config))
    return _tokenizer(source, config.revision, config.chat_template_file)


def ends_of(generation: GenerationConfig | None) -> list[int]:
    """The token ids that a model declares to end what it says."""
    declared = generation.eos_token_id if generation else None
    return [int(token) for token in (declared if isinstance(declared, list) else [declared]) if token is not None]


def declared_ends(config: ModelConfig) -> list[int]:
    """The same without loading any weights."""
    if config.init == "random":
        return []
    place = Path(local_path(config.path))
    if is_adapter(place) and not is_checkpoint(place):
        return declared_ends(plain_base(place, config))
    if gguf_files.is_gguf(config.path):
        return gguf_files.ends_of(place)
    try:
        return ends_of(GenerationConfig.from_pretrained(local_path(config.path), revision=config.revision or "main"))
    except (OSError, ValueError):
        return []


def declared_context(config: ModelConfig) -> int | None:
    """How many tokens prompt and answer may have together, without loading any weights; None where nothing says so."""
    place = Path(local_path(config.path))
    if config.init == "pretrained" and is_adapter(place):
        own = is_checkpoint(place)
        return declared_context(base_of(place, read_metadata(place)) if own else plain_base(place, config))
    if gguf_files.is_gguf(config.path):
        return gguf_files.settings_of(place).get("max_position_embeddings")
    if config.init == "random" and not is_local(config.path) and architecture_file(config.name) is None:
        return None  # only the hub would know
    try:
        if config.init == "random":
            return context_of(_architecture(config))
        return context_of(AutoConfig.from_pretrained(local_path(config.path), revision=config.revision or "main"))
    except (OSError, ValueError):
        return None


def context_of(config: PretrainedConfig) -> int | None:
    """How many tokens prompt and answer may have together; None where the model declares no limit.

    Of a model with longrope only the length that it was first trained at: beyond it the rotation of every row depends
    on the longest row of the batch, so that no answer's log-probability would be its own.
    """
    config = config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]  # some have one for each kind of layer
    known = [
        getattr(config, "max_position_embeddings", None),
        *(kind.get("original_max_position_embeddings") for kind in kinds if kind.get("rope_type") == "longrope"),
    ]
    return min((limit for limit in known if limit is not None), default=None)


def _adapted(folder: Path, config: ModelConfig, merge: bool) -> PreTrainedModel:
    """The base as its run had it, with the adapter; merged, the base is not quantized even where it was."""
    metadata = read_metadata(folder)
    quantization = None if merge else (metadata.get("lora") or {}).get("quantization")
    if quantization:
        check_quantization(quantization, device_for({}))
    wanted = {"dtype": config.dtype, "attn_implementation": config.attn_implementation}
    base, _ = load_model(base_of(folder, metadata).model_copy(update=wanted), quantization=quantization)
    return read_adapter(base, folder, merge=merge)


def _quantization(quantization: str | None) -> dict[str, Any]:
    if quantization is None:
        return {}
    from .adapters import quantized

    return quantized(quantization)


_REASONS = {
    "ignore_mismatched_sizes": "its weights do not fit its config.json",
    "backend tokenizer": "it has no tokenizer that transformers can read",
    "Unrecognized configuration class": "transformers loads it with other classes than those of language models alone, "
    "as it does with models of images or sound",
    "contains custom code": "it needs code of its own (trust_remote_code), which is never run",
}
"""What transformers says, by words in it, where its first line does not say it."""


def _reason(error: Exception) -> str:
    said = str(error)
    return next((reason for words, reason in _REASONS.items() if words in said), one_line(error))


def _attention(config: ModelConfig) -> dict[str, Any]:
    return {"attn_implementation": config.attn_implementation} if config.attn_implementation else {}


def _dtype(config: ModelConfig, automatic: torch.dtype) -> torch.dtype:
    """`auto` keeps the weights in float32, since at learning rates of 1e-6 a step is lost in bfloat16.

    Mixed precision is the trainer's `bf16`.
    """
    chosen: torch.dtype = automatic if config.dtype == "auto" else getattr(torch, config.dtype)
    return chosen


def _architecture(config: ModelConfig) -> PretrainedConfig:
    file = architecture_file(config.name)
    if file is not None and not is_local(config.path):
        known: PretrainedConfig = AutoConfig.for_model(**json.loads(file.read_text()))
        return known
    source = local_path(config.path) if is_local(config.path) else reach(config.path, config.revision)
    if gguf_files.is_gguf(source):
        return gguf.read_config(source)
    found: PretrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False)
    return found


def _has_tokenizer(source: str) -> bool:
    return gguf_files.is_gguf(source) or (Path(source) / "tokenizer_config.json").is_file()


def _tokenizer(source: str, revision: str | None, template_file: str | None) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase
    if gguf_files.is_gguf(source):
        tokenizer = gguf.read_tokenizer(source)
    else:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision or "main", trust_remote_code=False)
    if template_file is not None:
        try:
            tokenizer.chat_template = Path(template_file).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"model.chat_template_file={template_file}: cannot be read: {one_line(error)}") from error
    elif tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    if tokenizer.eos_token_id is None:
        raise UsageError(f"model.path={source}: its tokenizer has no end-of-turn token")
    tokenizer.padding_side = "left"
    return tokenizer


_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """256 bytes, two turn marks and padding: 259 ids, fit for every vocabulary that is at least as large."""
    vocabulary = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        extra_special_tokens=["<|im_start|>"],
        padding_side="left",
    )
    wrapped.chat_template = _CHAT_TEMPLATE
    return wrapped


def initial_model(config: RunConfig, run: Run) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """Model and tokenizer, on the CPU; the same whenever a run is resumed."""
    if not config.lora.enabled:
        return load_model(config.model, config.seed, merge=True)
    base = _base(config, run)
    model, tokenizer = load_model(base, quantization=config.lora.quantization)
    return with_adapter(model, config.lora, config.seed), tokenizer


def _base(config: RunConfig, run: Run) -> ModelConfig:
    """The frozen weights. Those that nobody else keeps are saved in the run, once."""
    model, kept = config.model, own_base(run)
    if not kept.is_dir():
        place = Path(local_path(model.path))
        if model.init == "pretrained" and not is_checkpoint(place) and not is_adapter(place):
            return model
        _keep(config, run)
    return model.model_copy(update={"path": str(kept.absolute()), "init": "pretrained", "revision": None})


def _keep(config: RunConfig, run: Run) -> None:
    made, tokenizer = load_model(config.model, config.seed, merge=True)
    made = with_adapter(made, config.lora, config.seed).unload()  # refuses wrong targets while nothing is written
    with whole_directory(own_base(run)) as folder:
        made.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
