"""Where a model lies: inside the package, in a local directory, or on the hub.

Knows paths and the package's assets. Knows nothing about torch or transformers.
"""

from __future__ import annotations

from pathlib import Path

from .errors import UsageError

EMBEDDED = "embedded:"
ASSETS = Path(__file__).parent / "assets"


def is_local(path: str) -> bool:
    """Whether `path` names something on this machine rather than on the hub."""
    return path.startswith((EMBEDDED, "/", "./", "../", "~")) or Path(path).is_dir()


def local_path(path: str) -> str:
    """The directory behind `path`; a hub id stays as it is."""
    if path.startswith(EMBEDDED):
        return str(ASSETS / path.removeprefix(EMBEDDED))
    return str(Path(path).expanduser()) if is_local(path) else path


def check_local(path: str) -> None:
    """Raises UsageError where a local path holds no model; hub ids pass."""
    if is_local(path) and not (Path(local_path(path)) / "config.json").is_file():
        raise UsageError(f"model.path={path}: no model here (no {Path(local_path(path)) / 'config.json'})")


def architecture_file(name: str) -> Path | None:
    """The config of a named model that ships with the package, for random weights without a download."""
    file = ASSETS / "architectures" / f"{name}.json"
    return file if file.is_file() else None
