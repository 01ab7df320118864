"""The generation engines: which of TRL's fields each one reads, and which settings it cannot honour.

Knows config sections and TRL's field names. Knows nothing about what this machine has: `launch/engine_checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import trainer_fields
from .schema import RunConfig

_CONTINUOUS = "transformers_continuous_batching_config"
_CORRECTION = (
    "vllm_importance_sampling_correction",
    "vllm_importance_sampling_mode",
    "vllm_importance_sampling_cap",
    "vllm_importance_sampling_clip_max",
    "vllm_importance_sampling_clip_min",
)
SWITCHES = {
    "use_vllm": ("vllm_colocate", "vllm_server"),
    "use_transformers_continuous_batching": ("continuous_batching",),
    "use_transformers_paged": ("continuous_batching",),
}
"""Fields by which TRL chooses a backend. Here `engine` does; `true` may repeat its choice but not contradict it."""
NEVER = {
    "vllm_enable_sleep_mode": "an update asks for answers many times, and each time all weights would be pushed anew",
    "vllm_structured_outputs_regex": "it cuts the distribution, so the trained log-probabilities would not be those "
    "sampled from",
}


@dataclass(frozen=True)
class Engine:
    """One choice of the `engine` group."""

    fields: tuple[str, ...] = ()
    """Fields of TRL's GRPOConfig that only this engine (and those that list it too) reads."""
    sets: Mapping[str, Any] | None = None
    """What choosing it decides in the trainer's settings."""
    problems: Callable[[RunConfig], list[str]] = lambda config: []
    """Settings that it cannot honour, one line each."""


def problems(config: RunConfig) -> list[str]:
    """One line for every setting that the chosen engine does not read or cannot honour."""
    name, engine = config.engine.name, ENGINES[config.engine.name]
    lines = []
    for field, value in config.trainer.items():
        shown = f"trainer.{field}={str(value).lower() if isinstance(value, bool) else value}"
        if value in (None, trainer_fields.fields()[field]["default"]):
            continue
        if field in NEVER:
            lines.append(f"{shown}: not supported: {NEVER[field]}")
        elif field in SWITCHES and name not in SWITCHES[field]:
            lines.append(f"{shown}: the engine group decides this; choose {_choices(SWITCHES[field])}")
        elif field == "vllm_mode" and engine.sets is not None and engine.sets.get(field, value) != value:
            lines.append(f"{shown}: contradicts engine={name}; choose engine=vllm_{value}")
        elif (known := readers(field)) and name not in known:
            lines.append(f"{shown}: engine={name} does not read it; choose {_choices(known)}")
    return lines + engine.problems(config)


def trainer_settings(name: str) -> Mapping[str, Any]:
    """What the engine decides in TRL's settings."""
    return ENGINES[name].sets or {}


def readers(field: str) -> list[str]:
    """The engines that alone read this field; none where all do."""
    return [name for name, engine in ENGINES.items() if field in engine.fields]


def _choices(names: Any) -> str:
    return " or ".join(f"engine={name}" for name in names)


def _continuous_problems(config: RunConfig) -> list[str]:
    lines = []
    if config.rollout.repetition_penalty != 1.0:
        lines.append(
            f"rollout.repetition_penalty={config.rollout.repetition_penalty}: engine=continuous_batching does not know "
            "the tokens before; use 1.0, or engine=single"
        )
    if config.model.attn_implementation == "eager":
        lines.append("model.attn_implementation=eager: engine=continuous_batching needs sdpa or a flash attention")
    half = config.trainer.get("bf16") or config.trainer.get("fp16")
    if half and config.model.dtype == "float32":
        lines.append(
            "trainer.bf16=true: engine=continuous_batching keeps its cache in the weights' float32; give "
            "trainer.bf16=false or model.dtype=bfloat16"
        )
    key, given = f"trainer.{_CONTINUOUS}", config.trainer.get(_CONTINUOUS) or {}
    if not isinstance(given, Mapping):
        return [*lines, f"{key}={given}: must be a dict of transformers' ContinuousBatchingConfig fields"]
    owned = [name for name in given if name in CONTINUOUS_OWNED]
    return lines + [
        f"{key}: {name} is set by engine=continuous_batching, which draws keyed tokens with it" for name in owned
    ]


CONTINUOUS_OWNED = (
    "num_blocks",
    "allow_block_sharing",
    "use_cuda_graph",
    "use_async_batching",
    "auto_switch_to_flash",
    "return_logprobs",
    "per_request_processors",
    "seed",
)
"""Fields of transformers' ContinuousBatchingConfig on which keyed sampling and fresh weights rest."""


def _vllm_problems(config: RunConfig) -> list[str]:
    if not config.lora.quantization:
        return []
    return [
        f"lora.quantization={config.lora.quantization}: engine={config.engine.name} would sample from an adapter "
        "merged into rounded weights, which is not what is trained; leave it out, or use engine=single"
    ]


def _colocate_problems(config: RunConfig) -> list[str]:
    lines = _vllm_problems(config)
    if config.model.init == "random":
        lines.append(
            "model.init=random: engine=vllm_colocate loads the files at model.path; save the random weights once, or "
            "use engine=single"
        )
    if config.model.path.lower().endswith(".gguf"):
        lines.append(
            f"model.path={config.model.path}: engine=vllm_colocate would read the file by itself, without unpacking "
            "its weights; use engine=single"
        )
    processes = 1 if config.parallel.name == "none" else config.parallel.processes
    if processes is not None and (problem := tensor_parallel_problem(config, processes)) is not None:
        lines.append(problem)
    needed = config.rollout.max_prompt_tokens + config.rollout.max_new_tokens
    given = config.trainer.get("vllm_max_model_length")
    if given is not None and given < needed:
        lines.append(
            f"trainer.vllm_max_model_length={given}: rollout.max_prompt_tokens + rollout.max_new_tokens = {needed}"
        )
    return lines


def tensor_parallel_problem(config: RunConfig, processes: int) -> str | None:
    """Why so many processes cannot share vLLM's tensors out as the config asks; None where they can."""
    wanted = int(config.trainer.get("vllm_tensor_parallel_size", 1))
    if processes % wanted == 0:
        return None
    key = f"trainer.vllm_tensor_parallel_size={wanted}"
    if processes == 1:
        several = f"parallel=ddp parallel.processes={wanted}"
        return f"{key}: one process has one GPU; use 1, or {several}, or engine=vllm_server"
    return f"{key}: {processes} processes are no whole groups of {wanted}; let it divide parallel.processes"


ENGINES: Mapping[str, Engine] = {
    "single": Engine(),
    "continuous_batching": Engine(
        fields=(_CONTINUOUS,),
        problems=_continuous_problems,
    ),
    "vllm_colocate": Engine(
        fields=(
            *_CORRECTION,
            "vllm_gpu_memory_utilization",
            "vllm_max_model_length",
            "vllm_tensor_parallel_size",
            "vllm_model_impl",
        ),
        sets={"use_vllm": True, "vllm_mode": "colocate"},
        problems=_colocate_problems,
    ),
    "vllm_server": Engine(
        fields=(
            *_CORRECTION,
            "vllm_server_base_url",
            "vllm_server_host",
            "vllm_server_port",
            "vllm_server_timeout",
            "vllm_group_port",
        ),
        sets={"use_vllm": True, "vllm_mode": "server"},
        problems=_vllm_problems,
    ),
}
