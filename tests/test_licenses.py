"""The licence that cards and exports name is the base's own, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from msgrpo_cli.config import compose
from msgrpo_cli.licenses import license_in, license_of


@pytest.mark.parametrize(
    ("card", "name"),
    [
        ("---\nlicense: apache-2.0\n---\n# Base\n", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: qwen-research\n---\n", "qwen-research"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\ntags: [a]\n---\n# license: mit\n", None),
        ("# Base\nlicense: mit\n", None),
        ("---\nlicense: [\n---\n", None),
        ("---\n- license\n---\n", None),
        ("", None),
    ],
)
def test_front_matter(card: str, name: str | None) -> None:
    assert license_in(card) == name


def test_of_a_directory_and_of_what_ships_with_the_package(tmp_path: Path) -> None:
    model = compose("train", []).model
    assert license_of(model) == "apache-2.0"
    local = model.model_copy(update={"path": str(tmp_path)})
    assert license_of(local) is None
    (tmp_path / "README.md").write_text("---\nlicense: llama3.2\n---\n")
    assert license_of(local) == "llama3.2"


def test_of_a_hub_model_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = compose("train", ["model=qwen3b"]).model
    assert license_of(model) is None
    repository = tmp_path / "models--Qwen--Qwen2.5-3B-Instruct"
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    (snapshot / "README.md").write_text("---\nlicense: other\nlicense_name: qwen-research\n---\n")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert license_of(model) == "qwen-research"
