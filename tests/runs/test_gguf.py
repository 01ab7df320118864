"""The header of a GGUF file, written here byte by byte: what it says, and what is told of one that is broken."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import pytest

from msgrpo_cli.errors import UsageError
from msgrpo_cli.runs.gguf import ends_of, is_gguf, license_in, read_header, settings_of, shapes_of
from msgrpo_cli.runs.pretrained import check_local, is_local

_KINDS = {int: (4, "I"), float: (6, "f"), bool: (7, "?")}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value_of(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    if isinstance(value, list):
        strings = isinstance(value[0], str)
        items = b"".join(text(one) if strings else struct.pack("<I", one) for one in value)
        return struct.pack("<IIQ", 9, 8 if strings else 4, len(value)) + items
    number, letter = _KINDS[type(value)]
    return struct.pack(f"<I{letter}", number, value)


def header(metadata: dict[str, Any], tensors: dict[str, tuple[int, ...]], version: int = 3) -> bytes:
    """Tensors of float32 that all begin at the same place."""
    written = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, value in metadata.items():
        written += text(key) + value_of(value)
    for name, shape in tensors.items():
        written += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), 0, 0)
    return written


SAID = {
    "general.architecture": "llama",
    "general.license": "other",
    "general.license.name": "some-research",
    "llama.block_count": 1,
    "llama.context_length": 64,
    "llama.embedding_length": 8,
    "llama.feed_forward_length": 12,
    "llama.attention.head_count": 2,
    "llama.attention.head_count_kv": 1,
    "llama.rope.freq_base": 1e4,
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.ggml.tokens": ["a", "é", "<end>"],
    "tokenizer.ggml.token_type": [1, 1, 3],
    "tokenizer.ggml.eos_token_id": 2,
}
TENSORS = {
    "token_embd.weight": (3, 8),
    "rope_freqs.weight": (2,),
    "blk.0.attn_q.weight": (8, 8),
    "blk.0.attn_k.weight": (4, 8),
    "blk.0.ffn_down.weight": (8, 12),
    "blk.0.attn_norm.weight": (8,),
    "output_norm.weight": (8,),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a.gguf").write_bytes(header(SAID, TENSORS))
    return tmp_path / "a.gguf"


def test_what_a_header_says(file: Path) -> None:
    found = read_header(file)
    assert found.metadata["tokenizer.ggml.tokens"] == 3 and found.metadata["tokenizer.ggml.token_type"] == [1, 1, 3]
    assert found.metadata["tokenizer.ggml.add_bos_token"] is False and found.start % 32 == 0
    assert settings_of(file) == {
        "model_type": "llama",
        "tie_word_embeddings": True,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 12,
        "max_position_embeddings": 64,
        "vocab_size": 3,
    }
    assert ends_of(file) == [2]
    assert license_in(file) == {"license": "other", "license_name": "some-research"}
    assert sum(map(math.prod, shapes_of(file).values())) == 24 + 64 + 32 + 96 + 8 + 8
    assert shapes_of(file)["model.layers.0.mlp.down_proj.weight"] == (8, 12)
    assert {"model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.weight"} <= set(shapes_of(file))


def test_a_licence_is_not_invented(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(header({"general.architecture": "llama"}, {}))
    assert license_in(tmp_path / "a.gguf") is None and ends_of(tmp_path / "a.gguf") == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no GGUF file: 0 bytes"),
        (b"PK\3\4" + bytes(100), "no GGUF file: it does not begin with GGUF"),
        (header(SAID, TENSORS, version=1), "GGUF of version 1; versions 2 and 3 are read"),
        (header({"general.name": "nobody"}, {}), "it does not say which architecture it is of (general.architecture)"),
        (header(SAID, TENSORS)[:-9], "damaged: {size} bytes, and its header goes on"),
        (header(SAID, TENSORS)[:99], "damaged: {size} bytes, and its header goes on"),
        (b"GGUF" + struct.pack("<I", 3) + b"\xff" * 64, "damaged: {size} bytes, and its header goes on"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + b"\x63\0\0\0", "a value of type 99 in its header"),
    ],
)
def test_what_is_no_gguf_file(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_header(tmp_path / "a.gguf")
    assert str(caught.value).startswith(f"model.path={tmp_path}/a.gguf: {said.format(size=len(content))}")


def test_every_cut_of_a_header_is_told(tmp_path: Path) -> None:
    whole = header(SAID, TENSORS)
    for length in range(24, len(whole), 5):
        (tmp_path / "a.gguf").write_bytes(whole[:length])
        with pytest.raises(UsageError, match="damaged"):
            read_header(tmp_path / "a.gguf")


def test_a_missing_file_names_the_script_that_gets_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^model\.path=.*/b\.gguf: no such file$"):
        read_header(tmp_path / "b.gguf")
    with pytest.raises(
        UsageError, match=r"no such file; experiments/smollm2/fetch\.sh of msgrpo's repository gets it$"
    ):
        read_header(tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf")


def test_the_ending_tells_a_file_on_this_machine(tmp_path: Path, file: Path) -> None:
    assert is_gguf("a.gguf") and is_gguf("A.GGUF") and is_local("a.gguf")
    assert not is_gguf("owner/a-GGUF") and not is_gguf("a.safetensors")
    (tmp_path / "folder.gguf").mkdir()
    assert not is_gguf(str(tmp_path / "folder.gguf"))


def test_a_folder_with_a_gguf_file_alone_says_how_it_is_named(file: Path) -> None:
    with pytest.raises(UsageError) as caught:
        check_local(str(file.parent))
    assert str(caught.value).endswith(f"; a GGUF file is named itself: model.path={file}")
