"""The files of a model's weights, as far as they can be judged without loading them.

Knows file names and the header of a safetensors file. Knows nothing about torch, transformers or checkpoints.
"""

from __future__ import annotations

import json
from pathlib import Path

_ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_ELSEWHERE = "adapter_config.json"  # an adapter's weights are its own, its base is named there
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_LONGEST_HEADER = 100_000_000  # bytes, as the safetensors library has it


def problem_with(folder: Path) -> str | None:
    """Why the weights in a model directory cannot be loaded; None where nothing speaks against it.

    Pickled weights run code when they are read, so they are never loaded, whatever is asked.
    """
    if (folder / _ELSEWHERE).is_file():
        return None
    if (folder / _INDEX).is_file():
        return _problem_with_shards(folder)
    if (folder / _ONE).is_file():
        return _problem_with_file(folder / _ONE)
    if any((folder / name).is_file() for name in _PICKLED):
        return (
            f"{_PICKLED[0]}: pickled weights run code when they are read, so they are never loaded; where you "
            "trust them, load and save them once with transformers, which writes model.safetensors"
        )
    return f"no weights here (no {_ONE})"


def _problem_with_shards(folder: Path) -> str | None:
    try:
        names = set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{_INDEX}: broken: it lists no files"
    problems = (_problem_with_file(folder / str(name)) for name in sorted(names, key=str))
    return next((problem for problem in problems if problem is not None), None)


def _problem_with_file(file: Path) -> str | None:
    """What is wrong with the length or the header of a safetensors file."""
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length)) if length <= min(size, _LONGEST_HEADER) else None
    except OSError as error:
        return f"{file.name}: cannot be read: {error.strerror}"
    except ValueError:
        header = None
    if not isinstance(header, dict):
        return f"{file.name}: broken: not a safetensors file"
    try:
        ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
    except (KeyError, TypeError, IndexError, ValueError):
        return f"{file.name}: broken: not a safetensors file"
    whole = 8 + length + max(ends, default=0)
    return None if size == whole else f"{file.name}: truncated: {size} bytes, its header says {whole}"
