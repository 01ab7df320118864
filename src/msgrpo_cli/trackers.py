"""Where trackers write: inside the run directory, unless the user's environment says otherwise.

Knows the trackers' environment variables. Knows nothing about what is tracked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def trackers_inside(run_dir: Path) -> Iterator[None]:
    """Set what is not set; afterwards unset it again, for the next job of a sweep has a directory of its own."""
    folder = (run_dir / "trackers").absolute()
    places = {
        "TENSORBOARD_LOGGING_DIR": f"{folder}/tensorboard",
        "TRACKIO_DIR": f"{folder}/trackio-data",  # a folder called trackio would be taken for the package
        "WANDB_DIR": str(folder),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    ours = {name: place for name, place in places.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]
