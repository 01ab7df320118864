"""What lies in a folder, so that two moments can be compared."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_SMALL = 100_000  # bytes; of larger files size and time of change tell enough


def snapshot(folder: Path) -> dict[str, object]:
    """For every name below: what a link points to, or the size and content of a file, or that it is a directory."""
    return {str(path.relative_to(folder)): _what(path) for path in sorted(folder.rglob("*"))}


def _what(path: Path) -> object:
    if path.is_symlink():
        return os.readlink(path)
    if not path.is_file():
        return "directory"
    status = path.stat()
    small = status.st_size <= _SMALL
    return status.st_size, hashlib.sha256(path.read_bytes()).hexdigest() if small else status.st_mtime_ns
