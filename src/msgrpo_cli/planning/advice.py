"""What to change where a run does not fit: keys of the config, each with the memory that the run would then take.

Knows keys and which of them spare memory, the gentlest first. Every figure comes from planning again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from msgrpo_cli.errors import UsageError

from .plan import Plan, replanned

_NOT_RUN = "not run here; needs a CUDA GPU"
_WHOLE = "each process has a part of the play"
_IN_PARTS = "each process has a part of weights, gradients and optimizer"
_GPUS_OF_A_MACHINE = 8
"""Where nobody said how many it has."""


@dataclass(frozen=True)
class Change:
    """Values of some keys, and what follows."""

    keys: Mapping[str, Any]
    total: int
    """Bytes that the run would take, or each of its processes."""
    fits: bool
    note: str | None = None

    @property
    def text(self) -> str:
        """As it is typed."""
        return " ".join(f"{key}={_typed(value)}" for key, value in self.keys.items())


def advice(found: Plan) -> list[Change]:
    """Every change that spares memory, alone; then, where none is enough, as many of them together as are needed."""
    changes = [change for change in (_tried(found, keys, note) for keys, note in _possible(found)) if change]
    if found.fits or any(change.fits for change in changes):
        return changes
    together: dict[str, Any] = {}
    for change in changes:
        together |= change.keys
        both = _tried(found, together, _NOT_RUN if "lora.quantization" in together else None)
        if both is not None and both.fits and len(together) > len(change.keys):
            return [*changes, both]
    return changes


def _possible(found: Plan) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Changes that this config leaves open."""
    config = found.config
    if not found.fits and found.processes > 1 and found.hardware.kind == "cpu":
        yield (
            _smaller(found, "parallel.processes", found.processes // config.parallel.nodes),
            "each has more of this machine's memory",
        )
    shareable = config.engine.name != "continuous_batching" and config.lora.quantization is None
    if config.parallel.name == "ddp" and found.processes > 1 and shareable:
        yield {"parallel.name": "fsdp"}, _IN_PARTS
    if (rows := int(config.trainer["per_device_train_batch_size"])) > 1:
        yield _smaller(found, "trainer.per_device_train_batch_size", rows), "the same gradient, in smaller pieces"
    if not config.trainer.get("gradient_checkpointing"):
        yield {"trainer.gradient_checkpointing": True}, "the same gradient, computed twice"
    if (live := config.rollout.max_live_episodes) > 1:
        yield _smaller(found, "rollout.max_live_episodes", live), "the same episodes, fewer at once"
    if config.parallel.name == "none" and not found.fits and found.hardware.kind == "cuda" and shareable:
        yield from _more_gpus(found)
    if config.trainer.get("beta") and not config.lora.enabled:
        yield {"trainer.beta": 0.0}, "no KL term"
    if not config.lora.enabled:
        yield {"lora.enabled": True}, "trains an adapter alone"
    if config.model.dtype != "bfloat16":
        yield {"model.dtype": "bfloat16", "lora.enabled": True}, "an adapter beside frozen weights of half the size"
    if config.lora.quantization is None and found.hardware.kind == "cuda":
        yield {"lora.enabled": True, "lora.quantization": "4bit", "model.dtype": "bfloat16"}, _NOT_RUN


def _more_gpus(found: Plan) -> Iterator[tuple[dict[str, Any], str]]:
    """The fewest of a machine with which the run fits; all of them where none is enough with fsdp."""
    most = found.hardware.gpus or _GPUS_OF_A_MACHINE
    counts = [count for count in (2**power for power in range(1, 8)) if count < most] + [most] * (most > 1)
    for name in ("ddp", "fsdp"):
        tried = [{"parallel.name": name, "parallel.processes": count} for count in counts]
        fitting = [keys for keys in tried if replanned(found, keys).fits]
        if fitting:
            yield fitting[0], f"so many GPUs; {_WHOLE if name == 'ddp' else _IN_PARTS}"
        elif name == "fsdp" and tried:
            yield tried[-1], f"so many GPUs; {_IN_PARTS}"


def _smaller(found: Plan, key: str, value: int) -> dict[str, Any]:
    """The largest half, quarter, ... with which the run fits, else 1."""
    size = value // 2
    while size > 1 and not replanned(found, {key: size}).fits:
        size //= 2
    return {key: max(1, size)}


def _tried(found: Plan, keys: Mapping[str, Any], note: str | None) -> Change | None:
    try:
        after = replanned(found, keys)
    except UsageError:  # this config's other keys do not go with it
        return None
    gain = after.memory.total / after.available < found.memory.total / found.available
    return Change(keys, after.memory.total, after.fits, note) if gain else None


def _typed(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
