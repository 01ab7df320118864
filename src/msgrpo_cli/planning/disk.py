"""Whether a disk has room for a run's checkpoints.

Knows arithmetic on a config and free bytes. Knows nothing about torch or how checkpoints are written.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from msgrpo_cli.common.numbers import gigabytes
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import UsageError

from .architecture import adapter_count, parameter_count

BYTES = {"auto": 4, "float32": 4, "bfloat16": 2, "float16": 2}
"""Of one weight, by `model.dtype`."""
_STATES = {"adamw_torch": 2, "adamw_torch_fused": 2, "adamw": 2, "sgd": 0, "adafactor": 1}
"""Numbers that an optimizer keeps for each parameter, in the parameter's precision; the most where it is not known."""
_MOST_STATES = 2


def checkpoint_bytes(config: RunConfig) -> int | None:
    """Size of one checkpoint: weights and optimizer; None where the number of parameters is unknown."""
    adapter = config.lora.enabled
    parameters = adapter_count(config.model, config.lora) if adapter else parameter_count(config.model)
    if parameters is None:
        return None
    states = optimizer_numbers(config)
    return parameters * (BYTES["float32"] if adapter else BYTES[config.model.dtype]) * (1 + states)


def optimizer_numbers(config: RunConfig) -> int:
    """How many numbers the optimizer keeps for each trained parameter."""
    return _STATES.get(str(config.trainer.get("optim")), _MOST_STATES)


def check_room(config: RunConfig, run_dir: Path, existing: int = 0) -> None:
    """Raises UsageError where the checkpoints that will lie side by side do not fit; `existing` of them are there."""
    size = checkpoint_bytes(config)
    if size is None:
        return
    save = config.save
    taken = -(-config.max_updates // save.every)  # how often one is written
    side_by_side = min(save.keep_last, taken) + (1 if save.keep_best else 0) + 1  # the last is being written
    needed = size * max(1, side_by_side - existing)
    free = shutil.disk_usage(_existing_parent(run_dir)).free
    if free < needed:
        raise UsageError(
            f"save.keep_last={save.keep_last}: {side_by_side} checkpoints of {gigabytes(size)} need "
            f"{gigabytes(needed)}, and {run_dir} has {gigabytes(free)} free; keep fewer, or choose a "
            "larger disk with hydra.run.dir (of a sweep: hydra.sweep.dir)"
        )


def _existing_parent(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
