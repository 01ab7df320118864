"""The licence of a base model, as its own model card tells it.

Knows the front matter of model cards and the local cache of the hub. Knows nothing about what a licence allows.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from .model_paths import EMBEDDED, is_local, local_path
from .schema import ModelConfig

_OURS = "apache-2.0"  # of what ships with the package, embedded models included


def license_of(model: ModelConfig) -> str | None:
    """The licence's name; None where no card on this machine tells it. Asks no hub."""
    if model.path.startswith(EMBEDDED):
        return _OURS
    card = _card(model)
    return license_in(card.read_text(encoding="utf-8", errors="replace")) if card else None


def license_in(card: str) -> str | None:
    """The `license` of a card's front matter; its `license_name` where that only says `other`."""
    parts = card.split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return None
    try:
        front = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return None
    if not isinstance(front, dict):
        return None
    name = front.get("license")
    named = front.get("license_name") if name == "other" else None
    return str(named or name) if name else None


def _card(model: ModelConfig) -> Path | None:
    if is_local(model.path):
        card = Path(local_path(model.path)) / "README.md"
        return card if card.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(model.path, "README.md", revision=model.revision)
    return Path(cached) if isinstance(cached, str) else None
