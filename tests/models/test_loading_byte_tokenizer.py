"""The byte tokenizer: any text comes back, also after saving and loading."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from msgrpo_cli.models.loading import byte_tokenizer

TEXTS = [
    "",
    "up",
    "  two  blanks\n\n\ttabs \r\n and ends ",
    "don't . , ! ' s 're",
    "é ü ñ 日本 🏔 \u0301 \u200b \u2028 \ufeff",
    "".join(map(chr, range(256))),
    "<action>up</action> <user> <|im_start|assistant",
    " leading",
    "a" * 500,
]


@pytest.fixture(name="loaded", scope="module")
def _loaded(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer().save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back_before_and_after_loading(loaded: PreTrainedTokenizerBase, text: str) -> None:
    made = byte_tokenizer()
    ids = made(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == len(text.encode()), "one token a byte"
    assert made.decode(ids) == text
    assert made(text)["input_ids"] == ids, "nothing is put in front"
    assert loaded(text)["input_ids"] == ids
    assert loaded.decode(ids) == text


def test_random_text_comes_back(loaded: PreTrainedTokenizerBase) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        codes = rng.integers(0, [128, 0x800, 0xD7FF, 0x1FFFF][rng.integers(4)], size=rng.integers(1, 40))
        text = "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
        assert loaded.decode(loaded(text)["input_ids"]) == text


def test_259_ids() -> None:
    tokenizer = byte_tokenizer()
    assert len(tokenizer) == 259
    assert sorted(tokenizer.get_vocab().values()) == list(range(259))
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|pad|>")
    assert sorted(tokenizer.all_special_ids) == [256, 257, 258]


def test_turn_marks_are_single_tokens(loaded: PreTrainedTokenizerBase) -> None:
    start = loaded.convert_tokens_to_ids("<|im_start|>")
    assert loaded("a<|im_start|>b<|im_end|>")["input_ids"][1::2] == [start, loaded.eos_token_id]


def test_chat_template(loaded: PreTrainedTokenizerBase) -> None:
    conversation = [{"role": "system", "content": "Play."}, {"role": "user", "content": "P .\n. G"}]
    expected = "<|im_start|>system\nPlay.<|im_end|>\n<|im_start|>user\nP .\n. G<|im_end|>\n<|im_start|>assistant\n"
    for tokenizer in (byte_tokenizer(), loaded):
        text = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
        assert text == expected
        encoded: Any = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=True)
        assert tokenizer.decode(encoded["input_ids"]) == expected
        without = tokenizer.apply_chat_template(conversation, tokenize=False)
        assert without == expected.removesuffix("<|im_start|>assistant\n")


def test_batches_are_padded_left(loaded: PreTrainedTokenizerBase) -> None:
    batch = loaded(["abc", "a"], padding=True)
    assert batch["input_ids"][1][:2] == [loaded.pad_token_id] * 2
    assert batch["attention_mask"][1] == [0, 0, 1]
