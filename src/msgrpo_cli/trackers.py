"""Where trackers write: inside the run directory, unless the user's environment says otherwise.

Knows the trackers' environment variables. Knows nothing about what is tracked.
"""

from __future__ import annotations

import netrc
import os
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
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def _wandb_is_logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
