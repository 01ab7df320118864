"""Checkpoints: whole or absent on disk, with what an evaluation needs to know beside the weights.

Knows directories, `msgrpo.json` and scores. Knows nothing about torch, games or how weights are written.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import RunError, UsageError
from .runs import Run, find_run, is_run, read_json, write_json, write_text
from .schema import RunConfig

SCHEMA = 1
_METADATA = "msgrpo.json"
_PREFIX = "checkpoint-"
_STATE = "trainer_state.json"


def metadata_of(config: RunConfig, run: Run, update: int, score: dict[str, Any] | None) -> dict[str, Any]:
    """What `msgrpo eval` needs of the run: game, prompt, sampling, base model, and the score on validation."""
    return {
        "schema": SCHEMA,
        "update": update,
        "run": run.path.name,
        "env": config.env.model_dump(),
        "prompt": config.prompt.model_dump(),
        "model": config.model.model_dump(),
        "rollout": config.rollout.model_dump(),
        "invalid_action": config.algo.invalid_action,
        "score": score,
    }


def publish(partial: Path, run: Run, update: int, metadata: dict[str, Any], card: str) -> Path:
    """Complete a checkpoint that was written aside, sync it and rename it to `checkpoint-<update>`."""
    write_json(partial / _METADATA, metadata)
    write_text(partial / "README.md", card)
    for file in partial.iterdir():
        _sync(file)
    final = run.checkpoints / f"{_PREFIX}{update}"
    if final.exists():
        shutil.rmtree(final)
    os.rename(partial, final)
    _sync(run.checkpoints)
    return final


def read_metadata(checkpoint: Path) -> dict[str, Any]:
    """`msgrpo.json` of a checkpoint. Raises UsageError where it is missing, broken or of a newer schema."""
    metadata = read_json(checkpoint / _METADATA)
    if not isinstance(metadata, dict):
        raise UsageError(f"{checkpoint / _METADATA}: broken: not an object")
    if metadata.get("schema", 0) > SCHEMA:
        raise UsageError(
            f"{checkpoint}: written by a newer msgrpo (schema {metadata['schema']}, this one reads {SCHEMA})"
        )
    return metadata


def is_checkpoint(path: Path) -> bool:
    """Whether a directory is one of our checkpoints."""
    return (path / _METADATA).is_file()


def is_whole(path: Path) -> bool:
    """Whether everything that a resume needs is there."""
    return all((path / name).is_file() for name in (_METADATA, "model.safetensors", "optimizer.pt", _STATE))


def checkpoints(run: Run) -> list[Path]:
    """The run's checkpoints, earliest first."""
    named = [path for path in run.checkpoints.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdecimal()]
    found = [path for path in named if is_checkpoint(path)]
    return sorted(found, key=update_of)


def update_of(checkpoint: Path) -> int:
    """The update after which a checkpoint was taken."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def last_whole(run: Run) -> Path | None:
    """The latest checkpoint that can be resumed from; None before the first.

    Raises RunError where there are checkpoints but none is whole.
    """
    there = checkpoints(run)
    whole = [path for path in there if is_whole(path)]
    if there and not whole:
        raise RunError(f"{run.path}: none of its {len(there)} checkpoints is whole")
    return whole[-1] if whole else None


def score_of(checkpoint: Path) -> float | None:
    """Mean total reward on validation; None where the checkpoint was not evaluated."""
    score = read_metadata(checkpoint).get("score")
    return None if score is None else float(score["mean_total_reward"])


def best(run: Run) -> Path | None:
    """The checkpoint with the highest validation score, the later of equals; else the last; None without any."""
    there = checkpoints(run)
    scored = [(score, update_of(path), path) for path in there if (score := score_of(path)) is not None]
    return max(scored)[2] if scored else (there[-1] if there else None)


def rotate(run: Run, keep_last: int, keep_best: bool) -> None:
    """Remove all but the last `keep_last` checkpoints and, if wanted, the best."""
    there = checkpoints(run)
    kept = {*there[-keep_last:], *([best(run)] if keep_best else [])}
    _remove(path for path in there if path not in kept)


def find_checkpoint(target: str) -> tuple[Path, Path | None]:
    """(checkpoint, its run or None) for a checkpoint directory or a run, whose best one is meant.

    Raises UsageError where there is none.
    """
    path = Path(target)
    if is_checkpoint(path):
        run = path.resolve().parent.parent
        return path, run if is_run(run) else None
    if path.is_dir() and not is_run(path):
        raise UsageError(f"{target}: neither a run (no run.json) nor a checkpoint (no {_METADATA})")
    run_path = find_run(target)
    found = best(Run(run_path))
    if found is None:
        raise UsageError(f"{run_path}: has no checkpoint yet")
    return found, run_path


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        aside = path.with_name(f".{path.name}.old")  # no longer a checkpoint, whatever happens while it is removed
        os.rename(path, aside)
        shutil.rmtree(aside)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
