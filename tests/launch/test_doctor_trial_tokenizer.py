"""The doctor's look at tokenizers: the embedded ones pass; what cannot carry a prompt or an answer is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.launch.doctor_trial import tokenizer
from msgrpo_cli.runs.pretrained import ASSETS


def test_the_embedded_models_and_random_weights() -> None:
    found = tokenizer(compose("train", []))
    assert found.startswith("embedded:tiny: ") and "of at most 64" in found
    assert "all actions come back unchanged" in tokenizer(compose("train", ["model=qwen0.5b", "model.init=random"]))


def test_a_prompt_that_is_too_long() -> None:
    with pytest.raises(RunError, match=r"^a prompt of frozenlake has \d+ tokens, rollout\.max_prompt_tokens allows 5$"):
        tokenizer(compose("train", ["rollout.max_prompt_tokens=5"]))


def test_no_chat_template(tmp_path: Path) -> None:
    shutil.copytree(ASSETS / "tiny", tmp_path / "bare")
    (tmp_path / "bare" / "chat_template.jinja").unlink()
    said = tokenizer(compose("train", [f"model.path={tmp_path / 'bare'}"]))
    assert "no chat template: turns are written as plain text" in said


def test_answers_that_the_tokenizer_garbles(tmp_path: Path) -> None:
    words = AutoTokenizer.from_pretrained(ASSETS / "tiny")
    text = (ASSETS / "tiny" / "tokenizer.json").read_text()
    shutil.copytree(ASSETS / "tiny", tmp_path / "garbled")
    assert '"left"' in text and len(words) > 0
    (tmp_path / "garbled" / "tokenizer.json").write_text(text.replace('"left"', '"lefd"'))
    with pytest.raises(RunError, match=r"^the answer <action>left</action> comes back from the tokenizer as "):
        tokenizer(compose("train", [f"model.path={tmp_path / 'garbled'}"]))


def test_no_model_there() -> None:
    with pytest.raises(UsageError, match="no model here"):
        tokenizer(compose("train", ["model.path=./nothing"]))
