"""GGUF files: what the header of one says about a model, and whether the file is whole.

Knows the layout of GGUF 2 and 3 (github.com/ggml-org/ggml, docs/gguf.md), the names of a decoder's tensors and keys,
and which package reads tensors. Reads no tensor. Knows nothing about torch or transformers.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from msgrpo_cli.errors import UsageError

from .gguf_shape import contradiction

_SUFFIX = ".gguf"
_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_FETCHED = {"SmolLM2-135M-Instruct.Q4_1.gguf": "experiments/smollm2/fetch.sh"}
"""Files that a script of the repository gets."""


def is_gguf(path: str) -> bool:
    """Whether `path` means a GGUF file, which need not be there."""
    return path.lower().endswith(_SUFFIX) and not Path(path).expanduser().is_dir()


def files_in(folder: Path) -> list[Path]:
    """The GGUF files that lie in a directory."""
    return sorted(file for file in folder.glob("*") if is_gguf(str(file)))


@dataclass(frozen=True)
class Header:
    """Everything in front of the tensors."""

    metadata: Mapping[str, Any]
    """By key. Of an array of strings, such as the vocabulary, only the length."""
    tensors: Mapping[str, tuple[tuple[int, ...], int, int]]
    """By name: shape as torch has it, number of the type, place behind `start`."""
    start: int
    """Where the first tensor begins."""

    @property
    def architecture(self) -> str:
        """As llama.cpp calls it."""
        return str(self.metadata["general.architecture"])

    def of_model(self, key: str) -> Any:
        """What the architecture's own key says; None where it is not there."""
        return self.metadata.get(f"{self.architecture}.{key}")


def read_header(file: Path) -> Header:
    """Raises UsageError where the file is missing or no GGUF."""
    try:
        known = file.stat()
        return _read(file, known.st_size, known.st_mtime_ns)
    except FileNotFoundError as problem:
        script = _FETCHED.get(file.name)
        raise UsageError(
            f"model.path={file}: no such file" + (f"; {script} of msgrpo's repository gets it" if script else "")
        ) from problem
    except OSError as problem:
        raise UsageError(f"model.path={file}: cannot be read: {problem.strerror or problem}") from problem
    except _BrokenFile as problem:
        raise UsageError(f"model.path={file}: {problem}") from problem
    except (struct.error, ValueError, TypeError, OverflowError) as problem:
        raise UsageError(f"model.path={file}: damaged: {known.st_size} bytes, and its header goes on") from problem


def check_file(path: str) -> None:
    """Raises UsageError where a GGUF file is missing, damaged, or cannot be read for want of a package."""
    file = Path(path).expanduser()
    header = read_header(file)
    if (kind := header.metadata.get("general.type", "model")) != "model":
        raise UsageError(f"model.path={path}: a GGUF file that holds no model, but: {kind}")
    if (parts := header.metadata.get("split.count", 1)) > 1:
        raise UsageError(f"model.path={path}: one of {parts} parts; llama-gguf-split --merge makes one file of them")
    try:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    except ImportError as problem:
        raise UsageError(
            f"model.path={path}: the package gguf is not installed; pip install 'msgrpo[gguf]'"
        ) from problem
    size, end = file.stat().st_size, header.start
    for name, (shape, kind, place) in header.tensors.items():
        try:
            block, stored = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        except (ValueError, KeyError) as problem:
            raise UsageError(f"model.path={path}: {name} is of type {kind}, which gguf does not know") from problem
        end = max(end, header.start + place + math.prod(shape) // block * stored)
    if size < end:
        raise UsageError(f"model.path={path}: damaged: {size} bytes, its header says {end}")
    shapes = {name: shape for name, (shape, _, _) in header.tensors.items()}
    if (why := contradiction(header.architecture, header.metadata, shapes)) is not None:
        raise UsageError(
            f"model.path={path}: its header and its tensors disagree: {why}; convert the model anew, or take another "
            "file"
        )


def settings_of(file: Path) -> dict[str, Any]:
    """What a config.json would say of the model's shape, under transformers' names; what is not told is left out."""
    header = read_header(file)
    named = {name: header.of_model(key) for name, key in _SETTINGS.items()}
    named["vocab_size"] = header.of_model("vocab_size") or header.metadata.get("tokenizer.ggml.tokens")
    return {
        "model_type": header.architecture,
        "tie_word_embeddings": "output.weight" not in header.tensors,
        **{name: value for name, value in named.items() if value is not None},
    }


_SETTINGS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
}


def shapes_of(file: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every weight. Of a decoder as Llama's the names are transformers', others stay as they are."""
    tensors = read_header(file).tensors.items()
    return {_transformers_name(name): shape for name, (shape, _, _) in tensors if name not in _NO_WEIGHTS}


def _transformers_name(name: str) -> str:
    if name in _OUTER:
        return _OUTER[name]
    layer = name.removeprefix("blk.").partition(".")[0]
    part, _, kind = name.removeprefix(f"blk.{layer}.").rpartition(".")
    return f"model.layers.{layer}.{_INNER[part]}.{kind}" if part in _INNER else name


_NO_WEIGHTS = {"rope_freqs.weight"}
_OUTER = {"token_embd.weight": "model.embed_tokens.weight", "output.weight": "lm_head.weight"}
_INNER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def ends_of(file: Path) -> list[int]:
    """The token id that the file declares to end an answer."""
    declared = read_header(file).metadata.get("tokenizer.ggml.eos_token_id")
    return [] if declared is None else [int(declared)]


def license_in(file: Path) -> dict[str, str] | None:
    """What the file says of its licence, under the names of a card's front matter; None where it says nothing."""
    said = read_header(file).metadata
    found = {field: said.get(f"general.{field.replace('_', '.')}") for field in ("license", "license_name")}
    return {field: str(text) for field, text in found.items() if text} if found["license"] else None


class _BrokenFile(Exception):
    pass


@lru_cache(maxsize=8)
def _read(file: Path, size: int, changed: int) -> Header:
    """`size` and `changed`, the time of the last change, make a file that was replaced another one."""
    if size < 24:
        raise _BrokenFile(f"no GGUF file: {size} bytes")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != _MAGIC:
            raise _BrokenFile("no GGUF file: it does not begin with GGUF")
        reader = _Reader(data, 4)
        version, tensors, keys = reader.numbers("IQQ")
        if version not in _VERSIONS:
            raise _BrokenFile(f"GGUF of version {version}; versions {' and '.join(map(str, _VERSIONS))} are read")
        metadata = {reader.text(): reader.value(*reader.numbers("I")) for _ in range(keys)}
        found = {}
        for _ in range(tensors):
            name = reader.text()
            shape = reader.numbers(f"{reader.numbers('I')[0]}Q")
            kind, place = reader.numbers("IQ")
            found[name] = (tuple(reversed(shape)), kind, place)
    if not isinstance(metadata.get("general.architecture"), str):
        raise _BrokenFile("it does not say which architecture it is of (general.architecture)")
    aligned = int(metadata.get("general.alignment") or 32)
    return Header(metadata, found, math.ceil(reader.place / aligned) * aligned)


_STRING, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class _Reader:
    """Goes through a header from front to back; whatever leads beyond the end raises struct.error."""

    def __init__(self, data: mmap.mmap, place: int) -> None:
        self.data, self.place = data, place

    def numbers(self, kinds: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{kinds}", self.data, self.place)
        self.place += struct.calcsize(f"<{kinds}")
        return found

    def text(self) -> str:
        (length,) = self.numbers("Q")
        return bytes(self.numbers(f"{length}s")[0]).decode()

    def value(self, kind: int) -> Any:
        """The next value, of a kind by GGUF's own number. Raises _BrokenFile for what no such header holds."""
        if kind in _NUMBERS:
            return self.numbers(_NUMBERS[kind])[0]
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            raise _BrokenFile(f"a value of type {kind} in its header, which GGUF does not have")
        inner, count = self.numbers("IQ")
        if inner in _NUMBERS:
            return list(self.numbers(f"{count}{_NUMBERS[inner]}"))
        if inner != _STRING:
            raise _BrokenFile("lists of lists in its header, which are not read")
        for _ in range(count):
            self.place += 8 + struct.unpack_from("<Q", self.data, self.place)[0]
        return count
