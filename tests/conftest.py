"""What several test modules share: a small random model, a lake, and a run of two updates."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Two test workers on two cores: more threads would fight."""
    import torch

    torch.set_num_threads(1)
