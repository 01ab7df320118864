"""Model directories that are amiss, each in one way: copies of the embedded base with one thing changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from msgrpo_cli.runs.pretrained import ASSETS

RAN = "import pathlib\npathlib.Path(__file__).with_name('ran').write_text('foreign code ran')\n"


def _edit(name: str, **changes: Any) -> Callable[[Path], None]:
    """Set keys of a JSON file; None removes a key."""

    def change(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        data |= changes
        (folder / name).write_text(json.dumps({key: value for key, value in data.items() if value is not None}))

    return change


def _cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])


def _pickle(folder: Path) -> None:
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()


def _index(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "part-1.safetensors")
        index = {"weight_map": {str(number): name for number, name in enumerate(names)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return change


def _write(name: str, content: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(content)

    return change


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _all(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def _template(text: str) -> Callable[[Path], None]:
    return _write("chat_template.jinja", text)


def _foreign(file: str, key: str, model_type: str | None) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "foreign.py").write_text(RAN)
        parts = ["AutoConfig", "AutoModelForCausalLM"] if key == "config" else ["AutoTokenizer"]
        value: Any = dict.fromkeys(parts, "foreign.Foreign")
        changes: dict[str, Any] = {
            "auto_map": value if key == "config" else {"AutoTokenizer": ["foreign.Foreign", None]}
        }
        if model_type:
            changes["model_type"] = model_type
        if key == "tokenizer":
            changes["tokenizer_class"] = "Foreign"
        _edit(file, **changes)(folder)

    return change


CHANGES: dict[str, Callable[[Path], None]] = {
    "good": lambda folder: None,
    'it\'s a "mödel" 模型': lambda folder: None,
    "truncated": _cut,
    "garbage": _write("model.safetensors", "not weights at all, but long enough for a header"),
    "no-weights": _remove("model.safetensors"),
    "pickled": _pickle,
    "lost-shard": _index("part-1.safetensors", "part-2.safetensors"),
    "broken-index": _all(_index("x"), _write("model.safetensors.index.json", "[]")),
    "broken-config": _write("config.json", "{"),
    "unknown-type": _edit("config.json", model_type="gpt99"),
    "wrong-shape": _edit("config.json", hidden_size=64, head_dim=16),
    "no-tokenizer": _all(_remove("tokenizer.json"), _remove("tokenizer_config.json")),
    "lacks-weights": _edit("config.json", num_hidden_layers=5),
    "no-template": _remove("chat_template.jinja"),
    "broken-template": _template("{% for %}"),
    "refusing-template": _template("{{ raise_exception('no system prompts here') }}"),
    "no-end": _edit("tokenizer_config.json", eos_token=None),
    "no-padding": _edit("tokenizer_config.json", pad_token=None),
    "short-context": _edit("config.json", max_position_embeddings=25),
    "foreign-model": _foreign("config.json", "config", "foreign"),
    "foreign-llama": _foreign("config.json", "config", None),
    "foreign-tokenizer": _foreign("tokenizer_config.json", "tokenizer", None),
}


def write_models(folder: Path) -> Path:
    """One directory for each name in CHANGES."""
    for name, change in CHANGES.items():
        shutil.copytree(ASSETS / "tiny", folder / name)
        change(folder / name)
    return folder
