"""Config, tokenizer and weights out of a GGUF file, through transformers; the weights are unpacked.

Knows which of transformers' functions read GGUF, and what a model must lose so that it is saved as an ordinary one.
Knows nothing about adapters, runs or the hub. transformers goes through the whole header for each of the three,
which takes seconds for a vocabulary of 49 152 tokens, so a config is kept and a tokenizer read without one.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast
from transformers.integrations import GGUF_CONFIG_MAPPING

from msgrpo_cli.errors import UsageError
from msgrpo_cli.runs.gguf import check_file, read_header


def read_config(path: str) -> PretrainedConfig:
    """What the header says of the architecture. Raises UsageError where the file cannot be read, ValueError where
    transformers finds it wrong."""
    _check(path)
    file = Path(path)
    return copy.deepcopy(_config(file, file.stat().st_mtime_ns))


def read_tokenizer(path: str) -> PreTrainedTokenizerFast:
    """As the header describes it, whatever its kind. Raises what `read_config` raises."""
    _check(path)
    place: dict[str, Any] = _place(Path(path))
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(**place)
    tokenizer.name_or_path = path
    for name, key in _SPECIAL.items():  # transformers 5.8 takes others for them
        if (declared := read_header(Path(path)).metadata.get(f"tokenizer.ggml.{key}_token_id")) is not None:
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(int(declared)))
    return tokenizer


_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def read_model(path: str, **settings: Any) -> Any:
    """What `from_pretrained` gives for the file and `settings`: a model of ordinary, unpacked weights."""
    with _once_and_quietly():
        config = read_config(path)
        found = AutoModelForCausalLM.from_pretrained(**_place(Path(path)), config=config, **_unpacked(), **settings)
    model = found[0] if isinstance(found, tuple) else found
    model.config.name_or_path = model.name_or_path = path
    return found


def _check(path: str) -> None:
    """Raises UsageError for a file that is damaged, or of an architecture that transformers does not read."""
    check_file(path)
    architecture = read_header(Path(path)).architecture
    if _plain(architecture) not in _known():
        raise UsageError(
            f"model.path={path}: its architecture is {architecture}, which transformers {transformers.__version__} "
            "does not read from GGUF"
        )


def _plain(architecture: str) -> str:
    """llama.cpp and transformers separate words differently, as in qwen2moe and qwen2_moe."""
    return architecture.replace("-", "").replace("_", "")


@lru_cache(maxsize=1)
def _known() -> set[str]:
    try:
        from transformers.integrations.gguf import GGUF_CONFIG_ARCHS
    except ImportError:  # of an earlier transformers, which has but one way
        GGUF_CONFIG_ARCHS = {}
    return {_plain(name) for name in (*GGUF_CONFIG_MAPPING, *GGUF_CONFIG_ARCHS)} | {"t5encoder"}


def _place(file: Path) -> dict[str, Any]:
    return {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}


@lru_cache(maxsize=4)
def _config(file: Path, changed: int) -> PretrainedConfig:
    found: PretrainedConfig = AutoConfig.from_pretrained(**_place(file))
    return found


def _unpacked() -> dict[str, Any]:
    """transformers may keep weights in their blocks, which cannot be trained; earlier versions always unpacked them."""
    asked = getattr(transformers, "GgufConfig", None)
    return {} if asked is None else {"quantization_config": asked(dequantize=True)}


@contextlib.contextmanager
def _once_and_quietly() -> Iterator[None]:
    """transformers reads the header for the config and again for the weights, and makes the map of names anew for every
    module: kept meanwhile, a Llama of 135 million parameters takes 15 s in place of 30. Its progress bar does not heed
    `disable_progress_bar`."""
    import gguf
    from transformers import modeling_gguf_pytorch_utils as reader

    replaced: list[tuple[Any, str, Any]] = [
        (gguf, "GGUFReader", lru_cache(gguf.GGUFReader)),
        (gguf, "get_tensor_name_map", lru_cache(gguf.get_tensor_name_map)),
        (reader, "tqdm", partial(reader.tqdm, disable=True)),
    ]
    before = [getattr(module, name) for module, name, _ in replaced]
    for module, name, new in replaced:
        setattr(module, name, new)
    try:
        yield
    finally:
        for (module, name, _), old in zip(replaced, before, strict=True):
            setattr(module, name, old)
