"""Doctor's look at the machine: devices, memory, disk, write access, and whether a hub can be reached.

Knows torch's devices, free bytes and one web address. Knows nothing about what a run does with them.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

from msgrpo_cli.common.memory import free_memory
from msgrpo_cli.common.numbers import gigabytes
from msgrpo_cli.common.text import one_line
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import RunError
from msgrpo_cli.planning.architecture import adapter_count, parameter_count
from msgrpo_cli.planning.disk import BYTES, check_room, checkpoint_bytes

_PATIENCE = 8.0  # seconds for the hub
_QUANTIZED_BYTES = {"4bit": 0.5, "8bit": 1.0}
_SIDE = 64  # of the matrices that are multiplied on a device


def devices(_: RunConfig) -> str:
    """What torch finds, and that it can compute on it."""
    import torch

    found = [f"cpu with {torch.get_num_threads()} threads (float32)"]
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32, no bf16"
        found.append(f"cuda:{number} {properties.name}, {gigabytes(properties.total_memory)} ({precision})")
        _compute(f"cuda:{number}")
    if torch.backends.mps.is_available():
        found.append("mps (float32)")
        _compute("mps")
    _compute("cpu")
    blind = torch.version.cuda is not None and not torch.cuda.is_available()
    return "; ".join(found) + (
        f"; this torch is built for CUDA {torch.version.cuda}, but finds no GPU" if blind else ""
    )


def _compute(device: str) -> None:
    import torch

    ones = torch.ones(_SIDE, _SIDE, device=device)
    total = float((ones @ ones).sum())
    if total != _SIDE**3:
        raise RunError(f"{device}: a product of matrices came out wrong ({total:g} in place of {_SIDE**3})")


def memory(config: RunConfig) -> str:
    """Whether weights, gradients and optimizer of the chosen model fit where it would be trained."""
    free, where = _free_memory()
    needed, adapter = memory_needed(config), config.lora.enabled
    if needed is None:
        return f"{gigabytes(free)} free {where}; what {config.model.name} needs is not known here"
    what = f"training {'an adapter of' if adapter else 'all of'} {config.model.name}"
    sentence = f"{what} needs {gigabytes(needed)} and its activations"
    if needed > free:
        advice = "choose a smaller model" + ("" if adapter else ", or lora.enabled=true")
        raise RunError(f"{sentence}; {gigabytes(free)} are free {where}: {advice}")
    return f"{gigabytes(free)} free {where}; {sentence}"


def memory_needed(config: RunConfig) -> int | None:
    """Bytes of weights, gradients and optimizer; None where the number of parameters is unknown."""
    parameters, stored = parameter_count(config.model), checkpoint_bytes(config)
    if parameters is None or stored is None:
        return None
    if not config.lora.enabled:
        return stored + parameters * BYTES[config.model.dtype]
    weight = _QUANTIZED_BYTES.get(config.lora.quantization or "", BYTES[config.model.dtype])
    gradients = (adapter_count(config.model, config.lora) or 0) * BYTES["float32"]
    return int(parameters * weight) + stored + gradients


def _free_memory() -> tuple[int, str]:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.mem_get_info(0)[0], "on cuda:0"
    return free_memory(), "in memory"


def disk(config: RunConfig) -> str:
    """Whether the checkpoints of the chosen config fit below the current folder."""
    here = Path.cwd()
    check_room(config, here)
    free = f"{gigabytes(shutil.disk_usage(here).free)} free in {here}"
    size = checkpoint_bytes(config)
    return free if size is None else f"{free}; a checkpoint of {config.model.name} takes {gigabytes(size)}"


def write_access(_: RunConfig) -> str:
    """Whether runs can be written below the current folder."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix=".msgrpo-doctor-", dir=here) as folder:
        (Path(folder) / "written").write_text("read back", encoding="utf-8")
        if (Path(folder) / "written").read_text(encoding="utf-8") != "read back":
            raise RunError(f"{here}: what was written was not read back")
    return f"{here} can be written to"


def hub(_: RunConfig) -> str:
    """Whether models can be downloaded; where they cannot, everything local works all the same."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "not asked: HF_HUB_OFFLINE is set, so that only local folders and the cache are used"
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(_ask(constants.ENDPOINT)), daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    return answers[0] if answers else _unreached(constants.ENDPOINT, f"no answer within {_PATIENCE:.0f} s")


def _ask(address: str) -> str:
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_PATIENCE).close()
    except urllib.error.HTTPError:  # an answer, whatever it says
        pass
    except (OSError, ValueError) as problem:
        return _unreached(address, one_line(problem))
    return f"{address} answers"


def _unreached(address: str, reason: str) -> str:
    return f"offline: {address} cannot be reached ({reason}); embedded models, local folders and the cache still work"
