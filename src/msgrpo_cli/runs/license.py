"""Under which licence a base stands, as its own card or licence file states it.

Knows model cards' front matter and licence files. Knows nothing about runs. None is invented: where nothing is stated
there is None. A checkpoint of ours carries it in its card, so a run that starts from it hands the licence on.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import yaml

from msgrpo_cli.config.schema import ModelConfig

from .gguf import is_gguf, license_in
from .pretrained import EMBEDDED, fetched, is_local, local_path

OURS = "apache-2.0"
"""Of the embedded bases: they are part of this package and under its LICENSE."""
_FIELDS = ("license", "license_name", "license_link")  # of a card's front matter, as the hub defines them
_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md", "COPYING")
_KNOWN_TEXTS = {"Apache License Version 2.0": "apache-2.0", "MIT License": "mit"}
_HUB = "https://huggingface.co"


def license_of(model: ModelConfig) -> dict[str, str] | None:
    """The fields of a card's front matter that state the licence; None where the base states none.

    Random weights have no base. May ask the hub, for seconds at most.
    """
    if model.path.startswith(EMBEDDED):
        return {"license": OURS}
    if model.init == "random":
        return None
    if is_gguf(model.path):
        return license_in(Path(local_path(model.path)))
    card = _file(model, "README.md")
    stated = _from_card(card) if card else None
    if stated:
        return _reachable_link(stated, model.path)
    found = (_file(model, name) for name in _FILES)
    file = next((path for path in found if path), None)
    return _from_text(file.read_text(encoding="utf-8", errors="replace")) if file else None


def _file(model: ModelConfig, name: str) -> Path | None:
    if not is_local(model.path):
        return fetched(model.path, model.revision, name)
    file = Path(local_path(model.path)) / name
    return file if file.is_file() else None


def _from_card(card: Path) -> dict[str, str] | None:
    """What the YAML block at the top of a card says; nothing where it has none, or one that cannot be read."""
    from huggingface_hub import metadata_load

    try:
        front = metadata_load(card) or {}
    except (yaml.YAMLError, ValueError):  # no YAML, not UTF-8, or no mapping
        return None
    if not isinstance(front.get("license"), str):
        return None
    return {field: front[field] for field in _FIELDS if isinstance(front.get(field), str)}


def _reachable_link(stated: dict[str, str], path: str) -> dict[str, str]:
    """A link that is a file's name leads nowhere from another folder: point to the hub, or leave it out."""
    link = stated.get("license_link")
    if link is None or urlsplit(link).scheme:
        return stated
    kept = {field: value for field, value in stated.items() if field != "license_link"}
    return kept if is_local(path) else {**kept, "license_link": f"{_HUB}/{path}/blob/main/{link}"}


def _from_text(text: str) -> dict[str, str] | None:
    """What a licence file calls itself."""
    words = " ".join(text.split())
    for beginning, known in _KNOWN_TEXTS.items():
        if words.startswith(beginning):
            return {"license": known}
    title = next((line.strip(" #*") for line in text.splitlines() if line.strip()), "")
    return {"license": "other", "license_name": title[:80]} if title else None
