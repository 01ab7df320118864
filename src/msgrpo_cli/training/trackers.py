"""Where trackers write: inside the run directory, unless the user's environment says otherwise.

Knows the trackers' environment variables. Knows nothing about what is tracked.
"""

from __future__ import annotations

import netrc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def trackers_inside(run_dir: Path) -> Iterator[None]:
    """Set what is not set; afterwards unset it again, for the next run of this process has a directory of its own."""
    folder = (run_dir / "trackers").absolute()
    places = {
        "TENSORBOARD_LOGGING_DIR": f"{folder}/tensorboard",
        "TRACKIO_DIR": f"{folder}/trackio-data",  # a folder called trackio would be taken for the package
        "WANDB_DIR": str(folder),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_FLATTEN_PARAMS": "TRUE",  # else it drops nested ones as too long
    }
    if not _wandb_is_logged_in():
        places["WANDB_MODE"] = "offline"  # else it would ask for a key, and wait
    ours = {name: place for name, place in places.items() if name not in os.environ}
    os.environ.update(ours)
    if "TRACKIO_DIR" in ours:
        _move_trackio(Path(ours["TRACKIO_DIR"]))
    try:
        yield
    finally:
        if (wandb := sys.modules.get("wandb")) is not None and getattr(wandb, "run", None) is not None:
            wandb.finish()  # at the end of the process it would write to stdout
        for name in ours:
            del os.environ[name]


def _move_trackio(folder: Path) -> None:
    """Where it is loaded already (TRL does that) it has read its variable, and keeps the place in several modules."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "trackio" and hasattr(module, "TRACKIO_DIR"):
            module.TRACKIO_DIR = folder  # type: ignore[attr-defined]


def _wandb_is_logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
