"""The fields of TRL's GRPOConfig: which exist, which types they take, and which values.

Knows names, types and defaults from `trainer_fields.json`, which `python -m msgrpo_cli.training.fields` writes from the
live class, so that a config is checked without importing torch. Knows nothing about what the fields do.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import math
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from msgrpo_cli.common.text import did_you_mean

from .trainer_refused import REASONS, owner

FILE = Path(__file__).with_name("trainer_fields.json")

_OURS_MAY_BE_NULL = {"learning_rate"}  # null: the default of the model or of its adapter
_ANY, _SHARE, _COUNT, _PORT = (0.0, sys.float_info.max), (0.0, 1.0), (1, sys.maxsize), (1, 65535)
_DECAY = (0.0, math.nextafter(1.0, 0.0))
_RANGES: Mapping[str, tuple[float, float]] = {
    "learning_rate": _ANY,
    "adam_beta1": _DECAY,
    "adam_beta2": _DECAY,
    "adam_epsilon": _ANY,
    "weight_decay": _ANY,
    "max_grad_norm": _ANY,
    "warmup_steps": _ANY,
    "beta": _ANY,
    "delta": _ANY,
    "epsilon": _ANY,
    "epsilon_high": _ANY,
    "entropy_coef": _ANY,
    "entropy_coef_delta": _ANY,
    "entropy_coef_max": _ANY,
    "entropy_coef_min": _ANY,
    "entropy_target": _ANY,
    "top_entropy_quantile": _SHARE,
    "router_aux_loss_coef": _ANY,
    "num_iterations": _COUNT,
    "per_device_train_batch_size": _COUNT,
    "pad_to_multiple_of": _COUNT,
    "torch_empty_cache_steps": _COUNT,
    "vllm_gpu_memory_utilization": _SHARE,
    "vllm_max_model_length": _COUNT,
    "vllm_tensor_parallel_size": _COUNT,
    "vllm_group_port": _PORT,
    "vllm_server_port": _PORT,
    "vllm_server_timeout": _ANY,
}
"""Lowest and highest value: TRL and torch take others, or refuse them only once a run has begun."""
_LEVELS = ("debug", "info", "warning", "error", "critical", "passive")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "importance_sampling_level": ("token", "sequence"),
    "vllm_mode": ("colocate", "server"),
    "log_level": _LEVELS,
}
"""Words of fields that are plain strings to TRL's annotations."""
_PACKAGES = {"use_liger_kernel": "liger_kernel"}
"""Fields that are switched on only where a package is installed; TRL says so too late."""
_OPTIMIZERS = {
    "bnb": "bitsandbytes", "8bit": "bitsandbytes", "paged": "bitsandbytes", "ademamix": "bitsandbytes",
    "lion": "bitsandbytes", "torch_4bit": "torchao", "torch_8bit": "torchao", "galore": "galore_torch",
    "lomo": "lomo_optim", "grokadamw": "grokadamw", "schedule_free": "schedulefree", "apollo": "apollo_torch",
    "stable_adamw": "optimi",
}  # fmt: skip
"""Packages of optimizers, by what their names hold; the last that fits counts."""
_NO_SUCH_VALUES = {
    ("lr_scheduler_type", "reduce_lr_on_plateau"): "it waits for evaluations of TRL's own, and there are none",
}
_CHECKPOINTING: Mapping[str, type] = {
    "use_reentrant": bool,
    "preserve_rng_state": bool,
    "determinism_check": str,
    "debug": bool,
    "early_stop": bool,
}
"""What torch.utils.checkpoint.checkpoint takes, but for its context_fn, which is a function."""
_DETERMINISM = ("default", "none")
_TRACKERS = {"trackio": "trackio", "tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}

_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "int": int,
    "float": (int, float),
    "bool": bool,
    "str": str,
    "dict": dict,
    "list": list,
}


@lru_cache(maxsize=1)
def fields() -> dict[str, dict[str, Any]]:
    """name -> {types, default, choices}: what the generated file says."""
    read: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return read


def free_fields() -> list[str]:
    """The fields that the trainer block takes."""
    return [name for name in fields() if owner(name) is None and name not in REASONS]


def may_be_null(name: str) -> bool:
    """Whether null stands for a default that is found later."""
    return name in _OURS_MAY_BE_NULL or "null" in fields()[name]["types"]


def least(name: str) -> float | None:
    """The smallest value of a field; None where there is no bound."""
    return _RANGES[name][0] if name in _RANGES else None


def few_values(name: str) -> list[str]:
    """The values of a field that has but a few, as they are typed; empty for any other."""
    if name not in free_fields():
        return []
    kinds = fields()[name]["types"]
    values = [*_TRACKERS, "none"] if name == "report_to" else list(fields()[name].get("choices") or [])
    values += ["true", "false"] if "bool" in kinds else []
    return values + (["null"] if "null" in kinds and values else [])


def problems(block: Mapping[str, Any]) -> list[str]:
    """One line for every mistake in a trainer block."""
    lines = [line for name, value in block.items() if (line := _problem(str(name), value)) is not None]
    if not lines and block.get("top_entropy_quantile", 1.0) < 1.0:
        lines += [
            f"trainer.top_entropy_quantile={block['top_entropy_quantile']}: not supported with trainer.{name}="
            f"{_shown(block[name])}: TRL's entropy bonus over chosen tokens depends on the cut into micro-batches"
            for name in ("entropy_coef", "use_adaptive_entropy")
            if block.get(name)
        ]
    return lines


def _problem(name: str, value: Any) -> str | None:
    key = f"trainer.{name}"
    known = fields().get(name)
    if known is None:
        near = difflib.get_close_matches(name, free_fields(), n=1)
        hint = f"; did you mean 'trainer.{near[0]}'?" if near else ""
        return f"{key}: unknown key: TRL's GRPOConfig has no such field{hint}"
    if (who := owner(name)) is not None:
        return f"{key}={_shown(value)}: not set here; this belongs to {who}"
    if name in REASONS:
        return None if value == known["default"] else f"{key}={_shown(value)}: not supported: {REASONS[name]}"
    if value == "???":
        return f"{key}: missing; give {key}=..."
    if value is None and name in _OURS_MAY_BE_NULL:
        return None
    if not any(_is(value, kind) for kind in known["types"]):
        return f"{key}={_shown(value)}: must be {' or '.join(known['types'])}{_several(name, value)}"
    choices = known.get("choices") or _CHOICES.get(name)
    if choices and isinstance(value, str) and value not in choices:
        near = difflib.get_close_matches(value, choices, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"{key}={value}: not one of {', '.join(choices)}{hint}"
    if name in _RANGES and isinstance(value, (int, float)):
        lowest, highest = _RANGES[name]
        if not lowest <= value <= highest:
            return f"{key}={_shown(value)}: must be {_words(value, lowest, highest)}"
    if value is True and name in _PACKAGES and importlib.util.find_spec(_PACKAGES[name]) is None:
        return f"{key}=true: the package {_PACKAGES[name]} is not installed"
    if (why := _NO_SUCH_VALUES.get((name, str(value)))) is not None:
        return f"{key}={value}: not supported: {why}"
    if name == "gradient_checkpointing_kwargs":
        return _checkpointing_problem(value or {})
    return _tracker_problem(value) if name == "report_to" else None


def optimizer_problem(name: str) -> str | None:
    """Why an optimizer cannot be made on this machine, in words; None where it can."""
    package = [package for part, package in _OPTIMIZERS.items() if part in name][-1:]
    if package and importlib.util.find_spec(package[0]) is None:
        return f"trainer.optim={name}: the package {package[0]} is not installed"
    return None


def _is(value: Any, kind: str) -> bool:
    if kind == "null":
        return value is None
    return isinstance(value, _KINDS[kind]) and (kind == "bool" or not isinstance(value, bool))


def _several(name: str, value: Any) -> str:
    if not isinstance(value, list):
        return ""
    return f"; to run each value use msgrpo sweep trainer.{name}={','.join(map(str, value))}"


def _words(value: float, lowest: float, highest: float) -> str:
    if highest > 1e18:
        return f"at least {lowest:g}" if value < lowest else "finite"
    return f"at least {lowest:g} and below 1" if (lowest, highest) == _DECAY else f"between {lowest:g} and {highest:g}"


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _checkpointing_problem(settings: Mapping[str, Any]) -> str | None:
    for name, value in settings.items():
        key = f"trainer.gradient_checkpointing_kwargs.{name}"
        if name not in _CHECKPOINTING:
            known = ", ".join(_CHECKPOINTING)
            return f"{key}: unknown key: torch's checkpoint takes {known}{did_you_mean(str(name), _CHECKPOINTING)}"
        if name == "determinism_check" and value not in _DETERMINISM:
            return f"{key}={_shown(value)}: not one of {', '.join(_DETERMINISM)}"
        if not isinstance(value, _CHECKPOINTING[name]):
            return f"{key}={_shown(value)}: must be true or false"
    if settings.get("use_reentrant") and settings.get("debug"):
        return "trainer.gradient_checkpointing_kwargs.debug=true: torch takes it with use_reentrant=false alone"
    return None


def _tracker_problem(value: Any) -> str | None:
    names = value if isinstance(value, list) else [value]
    for name in names:
        if name in (None, "none", "all"):
            continue
        if not isinstance(name, str) or name not in _TRACKERS:
            near = difflib.get_close_matches(str(name), _TRACKERS, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            return f"trainer.report_to={name}: not one of none, {', '.join(_TRACKERS)}{hint}"
        if importlib.util.find_spec(_TRACKERS[name]) is None:
            return f"trainer.report_to={name}: not installed; pip install 'msgrpo[{name}]'"
    return None
