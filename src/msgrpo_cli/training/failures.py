"""What went wrong in a run, in the user's words and with a remedy: memory, disk, numbers that are not finite.

Knows the exceptions of torch, safetensors and the operating system. Knows nothing about how to train.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError

from msgrpo_cli.algo.batching import Row
from msgrpo_cli.common.text import one_line
from msgrpo_cli.errors import NotFinite, RunError

_DISK = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_DISK |= {
    errno.EROFS: "the disk is read-only",
    errno.EFBIG: "a file is larger than allowed",
    errno.EIO: "the disk fails",
}
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory", re.IGNORECASE)
_NOT_WRITTEN = re.compile(
    r"PytorchStreamWriter|inline_container|iostream error|No space left|Read-only file system|File too large"
)

Limit = tuple[str, int]
"""A key that bounds memory, and how much is really in use of what it counts."""


def explained(
    error: Exception, phase: str, limits: Mapping[str, Limit], last_checkpoint: str | None
) -> RunError | None:
    """The RunError that tells a user what to do; None where the error says it itself.

    `phase` is where the run stood, `limits` the key that bounds the memory of each phase.
    """
    go_on = f"go on with --resume from {last_checkpoint}" if last_checkpoint else "there is no checkpoint yet"
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or _says(error, _NO_MEMORY, RuntimeError):
        return RunError(f"out of memory during {phase}: {_lower(phase, limits)}; {go_on}")
    if isinstance(error, OSError) and error.errno in _DISK:
        return RunError(f"{_DISK[error.errno]} ({error.filename or error.strerror}) during {phase}; {go_on}")
    if _says(error, _NOT_WRITTEN, (RuntimeError, SafetensorError, OSError)):
        return RunError(f"the disk took no more ({one_line(error)}) during {phase}; {go_on}")
    if isinstance(error, NotFinite):
        again = (
            f"{last_checkpoint} is good: start from it with --from and"
            if last_checkpoint
            else f"{go_on}: start anew with"
        )
        return RunError(f"{error}; {again} a lower trainer.learning_rate")
    return None


def not_finite(update: int, taken: int, loss: float, grad_norm: float, rows: Sequence[Row]) -> NotFinite:
    """Of an update that has `taken` so many optimizer steps before the one that its `rows` were to make."""
    left, were = "the weights were not changed", "was" if taken == 1 else "were"
    if taken:
        left = f"this optimizer step was not taken, but {taken} of the update {were} before it"
    return NotFinite(
        f"update {update}: loss {loss} or gradient norm {grad_norm} is not finite; {left}",
        {"update": update, "loss": loss, "grad_norm": grad_norm},
        rows,
    )


def _says(error: Exception, pattern: re.Pattern[str], kinds: type[Exception] | tuple[type[Exception], ...]) -> bool:
    return isinstance(error, kinds) and pattern.search(str(error)) is not None


def _lower(phase: str, limits: Mapping[str, Limit]) -> str:
    """Which key to lower, and to what: memory grows with what it counts, so half of what is in use."""
    key, used = limits.get(phase, limits["update"])
    if used > 1:
        return f"lower {key} to {used // 2} ({used} were in use)"
    return f"{key} cannot be lowered any more; choose a smaller model, lora.enabled=true or shorter answers"


def row_to_json(row: Row, prompt: str, completion: str) -> dict[str, Any]:
    """A training row as failure.json holds it."""
    return {
        "episode": row.episode,
        "advantage": row.advantage,
        "prompt": prompt,
        "completion": completion,
        "prompt_ids": list(row.prompt_ids),
        "completion_ids": list(row.completion_ids),
        "logprobs": list(row.logprobs),
    }
