"""One GPU: Qwen2.5 at full size with random weights; rollout and update beside the bare model, in bf16.

Knows the benchmarks of `msgrpo bench` and arithmetic. Usage: python gpu.py [--models qwen0.5b,qwen1.5b,qwen3b]
[--minutes 8] [KEY=VALUE]... ; prints a table to stderr and one JSON object to stdout. Needs no network and no weights.
What has no time left is named as not run.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from typing import Any

import torch

from msgrpo_cli.config.compose import compose
from msgrpo_cli.models.precision import device_for
from msgrpo_cli.training.bench.meter import seconds_of
from msgrpo_cli.training.bench.rollout import bench_rollout
from msgrpo_cli.training.bench.update import bench_update

SMALL = ["experiment=bench", "rollout.max_new_tokens=100", "rollout.max_prompt_tokens=1500", "model.init=random"]
ROWS_OF_AN_UPDATE = 512 * 8
"""The update that the figures are scaled to: 512 episodes of 8 decisions, 340 + 100 tokens each."""
CASES = {
    "rollout single": ("rollout", []),
    "rollout continuous_batching": ("rollout", ["engine=continuous_batching", "model.dtype=bfloat16"]),
    "update full": ("update", ["trainer.gradient_checkpointing=true"]),
    "update lora": ("update", ["lora.enabled=true", "trainer.gradient_checkpointing=true", "model.dtype=bfloat16"]),
}


def peak_flops(device: torch.device, side: int) -> float:
    """Arithmetic that this device really reaches: one large product in bf16, operations a second."""
    one = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    for _ in range(3):
        one @ one
    return 2 * side**3 / min(seconds_of(lambda: one @ one, device) for _ in range(5))


def measured(model: str, case: str, overrides: list[str], peak: float) -> dict[str, Any]:
    what, chosen = CASES[case]
    config = compose(
        "train", [SMALL[0], f"model={model}", *SMALL[1:], "rollout.max_prompt_tokens=1500", *chosen, *overrides]
    )
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    found = (bench_rollout if what == "rollout" else bench_update)(config, 1)
    found.pop("machine")
    if what == "update":
        tokens = found["tokens_without_loss"] + found["tokens_with_loss"]
        found["share_of_peak"] = 6 * found["parameters"] * found["tokens_read"] / found["seconds"] / peak
        found["unshared_share_of_peak"] = 6 * found["parameters"] * tokens / found["seconds"] / peak
        found["seconds_for_4096_rows"] = found["seconds"] / found["rows"] * ROWS_OF_AN_UPDATE
    else:
        found["seconds_for_4096_decisions"] = found["seconds"] / found["decisions"] * ROWS_OF_AN_UPDATE
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="qwen0.5b,qwen1.5b,qwen3b")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    began, device = time.perf_counter(), device_for({})
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    peak = peak_flops(device, 8192 if device.type == "cuda" else 512)
    results: dict[str, Any] = {
        "device": name,
        "day": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "peak_flops": peak,
    }
    for model in given.models.split(","):
        for case in CASES:
            label = f"{model} {case}"
            if (time.perf_counter() - began) / 60 > given.minutes:
                results[label] = "not run: no time left"
                continue
            try:
                results[label] = measured(model, case, given.overrides, peak)
            except Exception as problem:  # noqa: BLE001 - out of memory for one case leaves the others
                results[label] = f"failed: {type(problem).__name__}: {str(problem)[:300]}"
            print(label, json.dumps(results[label]), file=sys.stderr, flush=True)
            gc.collect()
            torch.cuda.empty_cache()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
