"""Models out of GGUF files: the weights that were written, and all that is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from msgrpo_cli.config.schema import ModelConfig
from msgrpo_cli.errors import UsageError
from msgrpo_cli.models.loading import (
    declared_context,
    declared_ends,
    ends_of,
    load_model,
    load_tokenizer,
    quiet_libraries,
)
from support.gguf_files import CONTEXT, TOKENS, small_model, write_gguf

TEXT = "go left, then up \n<|im_start|>user\n  Füße 12 <action>right</action>"


def chosen(path: Path | str, **changes: Any) -> ModelConfig:
    values = {"name": "any", "path": str(path), "init": "pretrained", "dtype": "auto", "chat_template_kwargs": {}}
    return ModelConfig.model_validate({**values, "attn_implementation": None, "revision": None, **changes})


def equal(first: Any, second: Any) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_weights_are_those_that_were_written(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quiet_libraries()
    written = small_model(kind)
    model, _ = load_model(chosen(write_gguf(tmp_path / "a.gguf", written)))
    assert equal(model, written)
    with torch.no_grad():
        ids = torch.tensor([[1, 5, 200, 7]])
        assert torch.equal(model(ids).logits, written(ids).logits)
    assert capsys.readouterr() == ("", "")


def test_half_precision_and_blocks_are_unpacked_into_the_wished_precision(tmp_path: Path) -> None:
    written = small_model()
    rounded = write_gguf(tmp_path / "half.gguf", written, lambda weights: weights.astype(np.float16))
    model, _ = load_model(chosen(rounded))
    embedded = written.model.embed_tokens.weight
    assert model.dtype == torch.float32
    assert torch.equal(model.model.embed_tokens.weight, embedded.half().float())
    blocks = write_gguf(tmp_path / "blocks.gguf", written, quantized="Q4_1")
    for dtype in ("float32", "bfloat16"):
        model, _ = load_model(chosen(blocks, dtype=dtype))
        assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
        assert (model.model.embed_tokens.weight.float() - embedded).abs().max() < 0.05
        assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_what_is_saved_is_an_ordinary_model(kind: str, tmp_path: Path) -> None:
    model, words = load_model(chosen(write_gguf(tmp_path / "a.gguf", small_model(kind), quantized="Q4_1")))
    for part in (model, words):
        part.save_pretrained(tmp_path / "saved")
    assert "quant" not in (tmp_path / "saved" / "config.json").read_text()
    assert not getattr(model, "is_quantized", False)
    assert equal(AutoModelForCausalLM.from_pretrained(tmp_path / "saved"), model)
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again(TEXT).input_ids == words(TEXT).input_ids
    assert again.chat_template == words.chat_template and again.eos_token == words.eos_token == "<|im_end|>"


def test_the_tokenizer_is_the_file_s(tmp_path: Path) -> None:
    words = load_tokenizer(chosen(write_gguf(tmp_path / "a.gguf", small_model())))
    ids = words(TEXT).input_ids
    assert words.decode(ids) == TEXT and len(words) == len(TOKENS)
    assert {TOKENS.index(token) for token in ("left", "up", "<|im_start|>")} <= set(ids)
    assert words.padding_side == "left" and words.pad_token == "<|endoftext|>"


def test_ends_and_context_are_known_without_the_weights(tmp_path: Path) -> None:
    config = chosen(write_gguf(tmp_path / "a.gguf", small_model()))
    model, _ = load_model(config)
    assert declared_ends(config) == ends_of(model.generation_config) == [TOKENS.index("<|im_end|>")]
    assert declared_context(config) == model.config.max_position_embeddings == CONTEXT


def test_random_weights_of_its_architecture(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "a.gguf", small_model(), quantized="Q4_1")
    model, words = load_model(chosen(file, init="random"), seed=3)
    again, _ = load_model(chosen(file, init="random"), seed=3)
    assert equal(model, again) and not equal(model, small_model())
    assert model.num_parameters() == small_model().num_parameters() and len(words) == len(TOKENS)


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "a.gguf", small_model())
    load_model(chosen(file))
    longer = small_model()
    longer.config.max_position_embeddings = 2 * CONTEXT
    write_gguf(file, longer, quantized="Q8_0")
    model, _ = load_model(chosen(file))
    assert declared_context(chosen(file)) == model.config.max_position_embeddings == 2 * CONTEXT


@pytest.mark.parametrize(("layers", "said"), [(1, "1 layer"), (3, "3 layers")])
def test_a_header_that_tells_of_other_layers_than_there_are_is_refused(layers: int, said: str, tmp_path: Path) -> None:
    """Transformers would make up what is missing, and drop what is too much."""
    file = write_gguf(tmp_path / "a.gguf", small_model(), keys=lambda writer: writer.add_block_count(layers))
    for read in (load_model, load_tokenizer):
        with pytest.raises(UsageError) as caught:
            read(chosen(file))
        assert str(caught.value) == (
            f"model.path={file}: its header and its tensors disagree: llama.block_count says {said}, and there are "
            "tensors of 2; convert the model anew, or take another file"
        )
