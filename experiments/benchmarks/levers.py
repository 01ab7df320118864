"""Means of transformers that this package leaves off by default, on one batch: seconds of `generate`.

Knows a model and `generate`. Usage: python levers.py [KEY=VALUE]...; prints one JSON object.
16 prompts of 340 tokens, 60 new tokens each, greedy, no end.
"""

from __future__ import annotations

import json
import sys
import time
from statistics import median
from typing import Any

import torch
from transformers import GenerationConfig

from msgrpo_cli.config.compose import compose
from msgrpo_cli.models.loading import load_model, quiet_libraries
from msgrpo_cli.training.bench.meter import machine

ROUNDS, ROWS, PROMPT, ANSWER = 5, 16, 340, 60
STATIC = {"cache_implementation": "static"}
WAYS: dict[str, tuple[torch.dtype, dict[str, Any]]] = {
    "dynamic_cache": (torch.float32, {"disable_compile": True}),
    "static_cache": (torch.float32, {**STATIC, "disable_compile": True}),
    "static_cache_compiled": (torch.float32, {**STATIC, "disable_compile": False}),
    "dynamic_cache_bfloat16": (torch.bfloat16, {"disable_compile": True}),
}


def main(overrides: list[str]) -> dict[str, Any]:
    quiet_libraries()
    config = compose("train", ["experiment=bench", *overrides])
    model, _ = load_model(config.model, config.seed)
    ids = torch.randint(10, 200, (ROWS, PROMPT), generator=torch.Generator().manual_seed(0)).to(model.device)
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(ROUNDS + 1):
        for name, (dtype, settings) in WAYS.items():
            model.to(dtype)
            asked = GenerationConfig(
                max_new_tokens=ANSWER, min_new_tokens=ANSWER, do_sample=False, pad_token_id=0, **settings
            )
            if not settings["disable_compile"]:
                model.forward = torch.compile(type(model).forward.__get__(model))  # on a CPU `generate` would not
            began = time.perf_counter()
            with torch.no_grad():
                model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=asked)
            if number:  # the first warms up, and compiles
                seconds[name].append(time.perf_counter() - began)
            model.__dict__.pop("forward", None)
    found = {f"{name}_seconds": median(values) for name, values in seconds.items()}
    base = seconds["dynamic_cache"]
    for name in list(WAYS)[1:]:
        found[f"{name}_ratio"] = median([one / plain for one, plain in zip(seconds[name], base, strict=True)])
    return {**found, "rounds": ROUNDS, "machine": machine(model.device)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
