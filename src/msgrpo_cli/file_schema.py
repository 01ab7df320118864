"""The number by which a file says how it is to be read.

Knows numbers. Knows nothing about what the files hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import UsageError

SCHEMA = 1
"""Of run.json, config.yaml and a checkpoint's msgrpo.json."""


def refuse_newer(path: Path, found: Any, known: int) -> None:
    """Raise UsageError for a file that a newer version wrote; `found` is its schema number, 0 where it has none."""
    if isinstance(found, bool) or not isinstance(found, int):
        raise UsageError(f"{path}: broken: its schema is {found!r}, not a number")
    if found > known:
        raise UsageError(f"{path}: written by a newer msgrpo (schema {found}, this one reads {known}); update msgrpo")
