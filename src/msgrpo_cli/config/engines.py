"""The generation engines: which of TRL's fields each one reads, what it cannot honour, what it needs of the machine.

Knows config sections, installed versions and how to ask whether a server answers. Imports nothing heavy, but torch to
look for a GPU where an engine needs one. Knows nothing about tokens, models or training.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.runs.pretrained import local_path

from . import trainer_fields
from .schema import RunConfig

_CONTINUOUS = "transformers_continuous_batching_config"
CONTINUOUS_NEEDS = "5.23"  # the tested one; its manager and its settings change from version to version
_PATIENCE = 10.0  # seconds for a server to answer
_CORRECTION = (
    "vllm_importance_sampling_correction",
    "vllm_importance_sampling_mode",
    "vllm_importance_sampling_cap",
    "vllm_importance_sampling_clip_max",
    "vllm_importance_sampling_clip_min",
)
_SWITCHES = {
    "use_vllm": ("vllm_colocate", "vllm_server"),
    "use_transformers_continuous_batching": ("continuous_batching",),
    "use_transformers_paged": ("continuous_batching",),
}
"""Fields by which TRL chooses a backend. Here `engine` does; `true` may repeat its choice but not contradict it."""
_NEVER = {
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
    check: Callable[[RunConfig], None] = lambda config: None
    """Raises UsageError or RunError where this machine lacks what it needs."""


def problems(config: RunConfig) -> list[str]:
    """One line for every setting that the chosen engine does not read or cannot honour."""
    name, engine = config.engine.name, ENGINES[config.engine.name]
    lines = []
    for field, value in config.trainer.items():
        shown = f"trainer.{field}={str(value).lower() if isinstance(value, bool) else value}"
        if value in (None, trainer_fields.fields()[field]["default"]):
            continue
        if field in _NEVER:
            lines.append(f"{shown}: not supported: {_NEVER[field]}")
        elif field in _SWITCHES and name not in _SWITCHES[field]:
            lines.append(f"{shown}: the engine group decides this; choose {_choices(_SWITCHES[field])}")
        elif field == "vllm_mode" and engine.sets is not None and engine.sets.get(field, value) != value:
            lines.append(f"{shown}: contradicts engine={name}; choose engine=vllm_{value}")
        elif (readers := _readers(field)) and name not in readers:
            lines.append(f"{shown}: engine={name} does not read it; choose {_choices(readers)}")
    return lines + engine.problems(config)


def trainer_settings(name: str) -> Mapping[str, Any]:
    """What the engine decides in TRL's settings."""
    return ENGINES[name].sets or {}


def check_machine(config: RunConfig) -> None:
    """Raises UsageError or RunError where the chosen engine cannot start here; writes nothing."""
    ENGINES[config.engine.name].check(config)


def server_url(trainer: Mapping[str, Any]) -> str:
    """Where the vLLM server is, by TRL's fields and defaults."""
    defaults = trainer_fields.fields()
    host, port = (trainer.get(name, defaults[name]["default"]) for name in ("vllm_server_host", "vllm_server_port"))
    return str(trainer.get("vllm_server_base_url") or f"http://{host}:{port}")


def _readers(field: str) -> list[str]:
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
    if int(config.trainer.get("vllm_tensor_parallel_size", 1)) != 1:
        lines.append(
            f"trainer.vllm_tensor_parallel_size={config.trainer['vllm_tensor_parallel_size']}: one process has one "
            "GPU; use 1, or engine=vllm_server"
        )
    needed = config.rollout.max_prompt_tokens + config.rollout.max_new_tokens
    given = config.trainer.get("vllm_max_model_length")
    if given is not None and given < needed:
        lines.append(
            f"trainer.vllm_max_model_length={given}: rollout.max_prompt_tokens + rollout.max_new_tokens = {needed}"
        )
    return lines


def _check_continuous(config: RunConfig) -> None:
    found = importlib.metadata.version("transformers")
    if Version(found) < Version(CONTINUOUS_NEEDS):
        raise UsageError(
            f"engine=continuous_batching: needs transformers {CONTINUOUS_NEEDS} or newer, found {found}; upgrade it, "
            "or use engine=single"
        )


def _check_colocate(config: RunConfig) -> None:
    _check_installed(config)
    _check_cuda(config)


def _check_server(config: RunConfig) -> None:
    _check_installed(config)
    check_server(server_url(config.trainer), local_path(config.model.path))
    _check_cuda(config)


def supported_vllm() -> SpecifierSet:
    """The versions of vLLM that the installed TRL declares."""
    wanted = map(Requirement, importlib.metadata.requires("trl") or [])
    return next(requirement.specifier for requirement in wanted if requirement.name == "vllm")


def _check_installed(config: RunConfig) -> None:
    supported = supported_vllm()
    shown = ",".join(sorted(map(str, supported), reverse=True))
    advice = f"vLLM {shown} is needed; pip install -c constraints-vllm.txt 'msgrpo[vllm]'"
    try:
        found = importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError as error:
        raise UsageError(f"engine={config.engine.name}: vLLM is not installed; {advice}") from error
    if found not in supported:
        raise UsageError(f"engine={config.engine.name}: vLLM {found} does not fit the installed TRL; {advice}")


def _check_cuda(config: RunConfig) -> None:
    import torch

    if not torch.cuda.is_available():
        raise UsageError(
            f"engine={config.engine.name}: needs a CUDA GPU in this machine, and torch finds none; use engine=single"
        )


def check_server(url: str, model_path: str, patience: float = _PATIENCE) -> None:
    """Raises RunError where no vLLM server answers at `url` within `patience` seconds. Proxies are not asked."""
    place = urlsplit(url)
    answer: list[str] = []

    def ask() -> None:
        kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        connection = kind(place.hostname or "", place.port, timeout=patience)
        try:
            connection.request("GET", f"{place.path.rstrip('/')}/health")
            status = connection.getresponse().status
            answer.append("" if status == 200 else f"HTTP status {status}")
        except (OSError, http.client.HTTPException) as error:
            answer.append(str(error) or type(error).__name__)
        finally:
            connection.close()

    worker = threading.Thread(target=ask, daemon=True)
    worker.start()
    worker.join(patience)
    problem = answer[0] if answer else f"no answer within {patience:.0f} s"
    if problem:
        raise RunError(
            f"engine=vllm_server: no vLLM server at {url} ({problem}); start it with: trl vllm-serve --model "
            f"{model_path} --port {place.port or 8000}, or name its place with trainer.vllm_server_host and "
            "trainer.vllm_server_port"
        )


ENGINES: Mapping[str, Engine] = {
    "single": Engine(),
    "continuous_batching": Engine(
        fields=(_CONTINUOUS,),
        problems=_continuous_problems,
        check=_check_continuous,
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
        check=_check_colocate,
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
        check=_check_server,
    ),
}
