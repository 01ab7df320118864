"""What torch's buckets take: anonymous memory of a process with qwen2-30m, bare and as one of two in DDP.

Usage: python buckets.py bare; torchrun --standalone --nproc-per-node 2 buckets.py plain|view. Linux alone.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from msgrpo_cli.config.compose import compose
from msgrpo_cli.models.loading import load_model, quiet_libraries


def anonymous() -> float:
    """MB of memory that is no file's, after malloc gave back what it can."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024 / 1e6


def main() -> None:
    """Three backward passes."""
    how = sys.argv[1]
    quiet_libraries()
    model, _ = load_model(compose("train", ["model=qwen2-30m", "model.init=random"]).model, 0)
    weights = list(model.parameters())
    before, wrapped = anonymous(), model
    if how != "bare":
        dist.init_process_group("gloo")
        wrapped = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=how == "view")
    told = [f"weights {sum(one.numel() * one.element_size() for one in weights) / 1e6:.1f} MB"]
    for _ in range(3):
        wrapped(input_ids=torch.tensor([[5, 6, 7, 8]])).logits.float().mean().backward()
        there = anonymous() - before
        model.zero_grad(set_to_none=True)
        told.append(f"with gradients +{there:.1f}, given back +{anonymous() - before:.1f}")
    if os.environ.get("RANK", "0") == "0":
        print(f"{how}: {'; '.join(told)}")
    if how != "bare":
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
