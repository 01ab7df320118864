"""Where a model lies: inside the package, in a local directory, or on the hub.

Knows paths, the package's assets and how to ask a hub. Knows nothing about torch or transformers.
"""

from __future__ import annotations

import threading
from pathlib import Path

from .errors import RunError, UsageError
from .schema import ModelConfig

EMBEDDED = "embedded:"
_PATIENCE = 8.0  # seconds to reach a hub
ASSETS = Path(__file__).parent / "assets"


def is_local(path: str) -> bool:
    """Whether `path` names something on this machine rather than on the hub."""
    return path.startswith((EMBEDDED, "/", "./", "../", "~")) or Path(path).is_dir()


def local_path(path: str) -> str:
    """The directory behind `path`; a hub id stays as it is."""
    if path.startswith(EMBEDDED):
        return str(ASSETS / path.removeprefix(EMBEDDED))
    return str(Path(path).expanduser()) if is_local(path) else path


def check_local(path: str) -> None:
    """Raises UsageError where a local path holds no model; hub ids pass."""
    folder = Path(local_path(path))
    adapter = (folder / "adapter_config.json").is_file() and (folder / "msgrpo.json").is_file()
    if is_local(path) and not adapter and not (folder / "config.json").is_file():
        raise UsageError(f"model.path={path}: no model here (no {folder / 'config.json'})")


def architecture_file(name: str) -> Path | None:
    """The config of a named model that ships with the package, for random weights without a download."""
    file = ASSETS / "architectures" / f"{name}.json"
    return file if file.is_file() else None


def check_reachable(config: ModelConfig) -> None:
    """Raises UsageError where a local path holds no model, RunError where a hub cannot be reached; loads nothing."""
    check_local(config.path)
    known = config.init == "random" and architecture_file(config.name) is not None
    if not is_local(config.path) and not known:
        reach(config.path, config.revision)


def reach(model_id: str, revision: str | None) -> None:
    """Make sure that a hub model is in the cache or within reach; RunError within ten seconds otherwise."""
    import logging

    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it retries aloud
    if isinstance(try_to_load_from_cache(model_id, "config.json", revision=revision), str):
        return
    advice = "give a local directory with model.path=DIR, or model.init=random for random weights"
    if constants.HF_HUB_OFFLINE:
        raise RunError(f"model.path={model_id}: not in the local cache, and HF_HUB_OFFLINE is set; {advice}")
    failure: list[str] = []

    def fetch() -> None:
        try:
            hf_hub_download(model_id, "config.json", revision=revision, etag_timeout=5)
        except (OSError, ValueError, RuntimeError) as error:
            failure.append(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)

    worker = threading.Thread(target=fetch, daemon=True)
    worker.start()
    worker.join(_PATIENCE)
    if worker.is_alive() or failure:
        reason = failure[0] if failure else f"no answer within {_PATIENCE:.0f} s"
        raise RunError(
            f"model.path={model_id}: no such local directory, not in the local cache, and the hub cannot be reached "
            f"({reason}); {advice}"
        )
