"""Files and directories that are whole or absent, and the number that says how a file is to be read.

Knows paths, JSON and renaming. Knows nothing about runs or what the files are for.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgrpo_cli.errors import UsageError


def strict(value: Any) -> Any:
    """The same data as strict JSON allows: None for numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    return value


def write_text(path: Path, text: str) -> None:
    """Replace a file in one stroke: written aside, synced, renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    with naming(path):
        try:
            with aside.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An error of writing says which file it was: that of a full disk does not by itself."""
    try:
        yield
    except OSError as problem:
        problem.filename = problem.filename or str(path)
        raise


def write_json(path: Path, value: Any) -> None:
    """Replace a file by strict JSON."""
    write_text(path, json.dumps(strict(value), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises UsageError where the file is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable as JSON ({error})") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None


def sync(path: Path) -> None:
    """Make sure that a file, or the names in a directory, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def whole_directory(final: Path) -> Iterator[Path]:
    """A directory to write into, beside `final`; afterwards it is synced and renamed, so `final` is whole or absent."""
    aside = final.with_name(f".{final.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    yield aside
    put_in_place(aside, final)


def put_in_place(aside: Path, final: Path) -> None:
    """Sync a directory and rename it to `final`; what was there before goes in one stroke."""
    for file in aside.rglob("*"):
        sync(file)
    sync(aside)
    if final.exists():
        remove_directory(final)
    os.rename(aside, final)
    sync(final.parent)


def remove_directory(path: Path) -> None:
    """Remove a directory whose name disappears in one stroke, whatever happens while its files are removed."""
    aside = path.with_name(f".{path.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(path, aside)
    shutil.rmtree(aside)


SCHEMA = 1
"""Of run.json, config.yaml and a checkpoint's msgrpo.json."""


def refuse_newer(path: Path, found: Any, known: int) -> None:
    """Raise UsageError for a file that a newer version wrote; `found` is its schema number, 0 where it has none."""
    if isinstance(found, bool) or not isinstance(found, int):
        raise UsageError(f"{path}: broken: its schema is {found!r}, not a number")
    if found > known:
        raise UsageError(f"{path}: written by a newer msgrpo (schema {found}, this one reads {known}); update msgrpo")
