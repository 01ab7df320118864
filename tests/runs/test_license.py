"""The base's licence: read from its card or its licence file, handed on from run to run, never invented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from msgrpo_cli.config.schema import ModelConfig
from msgrpo_cli.runs.license import OURS, license_of
from msgrpo_cli.runs.model_card import model_card
from support.places import ROOT


def model(path: Path | str, **changes: Any) -> ModelConfig:
    values: dict[str, Any] = {
        "name": "base",
        "path": str(path),
        "init": "pretrained",
        "dtype": "auto",
        "attn_implementation": None,
        "revision": None,
        "chat_template_kwargs": {},
    }
    return ModelConfig.model_validate(values | changes)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"README.md": "# A model\nlicense: mit\n"}, None),
        ({"README.md": "---\nlicense: llama3.2\ntags: [x]\n---\n# A model\n"}, {"license": "llama3.2"}),
        (
            {"README.md": "---\nlicense: other\nlicense_name: n\nlicense_link: https://example.org/l\n---\n"},
            {"license": "other", "license_name": "n", "license_link": "https://example.org/l"},
        ),
        (
            {"README.md": "---\nlicense: other\nlicense_name: n\nlicense_link: LICENSE\n---\n"},
            {"license": "other", "license_name": "n"},
        ),
        ({"README.md": "---\nlicense: [a, b]\n---\n"}, None),
        ({"README.md": "---\nlicense\n---\n"}, None),
        ({"README.md": "---\n---\n"}, None),
        ({"README.md": "---\r\nlicense: mit\r\n---\r\n# A model\r\n"}, {"license": "mit"}),
        ({"README.md": "\ufeff---\nlicense: mit\n---"}, {"license": "mit"}),
        ({"README.md": "---\nlicense: {\n---\n", "LICENSE": "MIT License\n\nCopyright"}, {"license": "mit"}),
        ({"LICENSE": "   Apache License\n    Version 2.0, January 2004\n"}, {"license": "apache-2.0"}),
        (
            {"LICENSE.txt": "\nLLAMA 3.2 COMMUNITY LICENSE AGREEMENT\nLlama 3.2 Version\n"},
            {"license": "other", "license_name": "LLAMA 3.2 COMMUNITY LICENSE AGREEMENT"},
        ),
        ({"LICENSE": "\n\n"}, None),
        ({"README.md": "---\nlicense: llama3.2\n---\n", "LICENSE": "MIT License\n"}, {"license": "llama3.2"}),
    ],
)
def test_what_a_directory_states(files: dict[str, str], expected: dict[str, str] | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert license_of(model(tmp_path)) == expected


def test_embedded_bases_are_ours_as_our_licence_file_says() -> None:
    assert license_of(model("embedded:tiny")) == {"license": OURS}
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0" in text


def test_random_weights_have_no_base() -> None:
    assert license_of(model("someone/model", init="random")) is None


def test_a_hub_model_that_is_not_in_the_cache_is_not_guessed() -> None:
    assert license_of(model("Qwen/Qwen2.5-3B-Instruct")) is None


def test_a_chain_of_runs_hands_the_licence_on(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: research\n---\n")
    for generation in ("first", "second"):
        found = license_of(model(tmp_path))
        card = model_card(
            base_model=str(tmp_path), env="frozenlake", env_keys={}, algorithm={}, update=1, base_license=found
        )
        tmp_path = tmp_path / generation
        tmp_path.mkdir()
        (tmp_path / "README.md").write_text(card)
    assert license_of(model(tmp_path)) == {"license": "other", "license_name": "research"}


def test_a_run_names_its_base_s_licence_in_its_cards_and_record(finished_run: Path) -> None:
    cards = list(finished_run.glob("checkpoints/*/README.md"))
    assert cards and all(yaml.safe_load(c.read_text().split("---\n")[1])["license"] == OURS for c in cards)
    assert yaml.safe_load((finished_run / "run.json").read_text())["base_license"] == {"license": OURS}
