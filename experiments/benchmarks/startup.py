"""Seconds from the start of `msgrpo train` to its first decision, without importing trl and loading weights.

Knows where a process begins. Usage: python startup.py [KEY=VALUE]...; prints one JSON object.
Evaluation before training is switched off (`eval.every=0`); every start is a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

STARTS = 5


class FirstDecision(BaseException):
    """Raised in place of it."""


def main(overrides: list[str]) -> None:
    """In a process of its own: prints the parts of one start."""
    import psutil

    began = psutil.Process().create_time()
    before = time.time()
    from trl import GRPOConfig, GRPOTrainer  # noqa: F401 - what every program on TRL pays

    importing = time.time() - before
    import transformers

    from msgrpo_cli.models.policy import LanguageAgentPolicy
    from msgrpo_cli.training.train import train_job

    loading = 0.0
    load = transformers.AutoModelForCausalLM.from_pretrained

    def timed(*arguments: Any, **named: Any) -> Any:
        nonlocal loading
        before = time.time()
        model = load(*arguments, **named)
        loading += time.time() - before
        return model

    def first(*_: Any) -> None:
        raise FirstDecision

    transformers.AutoModelForCausalLM.from_pretrained = timed
    LanguageAgentPolicy.act = first  # type: ignore[method-assign, assignment]
    from pathlib import Path

    from msgrpo_cli.config.compose import compose

    with tempfile.TemporaryDirectory() as folder:
        try:
            config = compose("train", ["eval.every=0", *overrides])
            train_job(config, Path(folder) / "run", command=["msgrpo", "train"], overrides=overrides)
        except FirstDecision:
            whole = time.time() - began
    print(json.dumps({"whole": whole, "importing_trl": importing, "loading_weights": loading}))


def measure(overrides: list[str]) -> dict[str, Any]:
    """Medians over several starts; `seconds` is what is left."""
    rounds = []
    for _ in range(STARTS):
        command = [sys.executable, __file__, "--once", *overrides]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        rounds.append(json.loads(ended.stdout.splitlines()[-1]))
    found = {name: median(one[name] for one in rounds) for name in rounds[0]}
    rest = median(one["whole"] - one["importing_trl"] - one["loading_weights"] for one in rounds)
    return {"seconds": rest, **found, "rounds": STARTS}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        main(sys.argv[2:])
    else:
        print(json.dumps(measure(sys.argv[1:])))
