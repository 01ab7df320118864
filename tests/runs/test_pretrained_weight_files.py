"""Weights judged by their files alone: whole ones pass, what the table of bad input does not hold is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from msgrpo_cli.runs.pretrained import problem_with


def test_whole_weights_pass(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3, 2), "b": torch.zeros(1)}, tmp_path / "model.safetensors", {"format": "pt"})
    assert problem_with(tmp_path) is None
    (tmp_path / "pytorch_model.bin").write_bytes(b"never read where there is something better")
    assert problem_with(tmp_path) is None


def test_shards_pass_and_one_cut_short_is_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file({name: torch.ones(4)}, tmp_path / f"{name}.safetensors")
    index = {"weight_map": {name: f"{name}.safetensors" for name in ("one", "two")}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert problem_with(tmp_path) is None
    whole = (tmp_path / "two.safetensors").read_bytes()
    (tmp_path / "two.safetensors").write_bytes(whole[:-1])
    assert problem_with(tmp_path) == f"two.safetensors: damaged: {len(whole) - 1} bytes, not what its header says"


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 7, b"\xff" * 64, b"\x02" + b"\0" * 7 + b"[]", b"\x02" + b"\0" * 7 + b"{}x"]
)
def test_what_is_no_safetensors_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert str(problem_with(tmp_path)).startswith("model.safetensors: ")


def test_an_adapter_has_weights_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert problem_with(tmp_path) is None
