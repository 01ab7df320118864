"""The files of an adapter checkpoint, and the base model that it needs.

Knows file names, paths and a checkpoint's `msgrpo.json`. Knows nothing about torch, peft or weights.

A base has its place outside: on the hub, in the package, or in a directory of the user's. Weights that a run made
itself (random ones, or an adapter merged into its base) are kept once, in the run's `base/`; checkpoints name them
by a path relative to themselves, so a run can be copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgrpo_cli.config.schema import ModelConfig
from msgrpo_cli.errors import UsageError
from msgrpo_cli.model_paths import EMBEDDED, is_local, local_path
from msgrpo_cli.runs import Run

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def is_adapter(folder: Path) -> bool:
    """Whether a directory holds an adapter rather than a whole model."""
    return (folder / CONFIG).is_file()


def own_base(run: Run) -> Path:
    """Where a LoRA run keeps a base that it made itself."""
    return run.path / "base"


def named_base(model: ModelConfig, run: Run) -> str | None:
    """How a checkpoint of `run` names its base beside `model.path`: None where that says it on every machine."""
    if own_base(run).is_dir():
        return f"../../{own_base(run).name}"
    elsewhere = is_local(model.path) and not model.path.startswith(EMBEDDED)
    return str(Path(local_path(model.path)).absolute()) if elsewhere else None


def base_of(checkpoint: Path, metadata: Mapping[str, Any]) -> ModelConfig:
    """The model that a checkpoint's run started from. Raises UsageError where an adapter's own base is gone."""
    model = ModelConfig.model_validate(metadata["model"])
    if not (named := metadata.get("base")):
        return model
    place = (checkpoint / named).resolve()
    if not (place / "config.json").is_file():
        raise UsageError(f"{checkpoint}: an adapter whose base is not at {place}; copy the whole run, or put it back")
    return model.model_copy(update={"path": str(place), "init": "pretrained", "revision": None})
