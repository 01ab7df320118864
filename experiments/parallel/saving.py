"""What does saving weights that are shared out add to a rank's memory, the first and the others?

Knows `sharding` and /proc. Usage: torchrun --standalone --nproc-per-node P saving.py; a line for each rank, in MB above
what it held before, once malloc had given back what it can. Linux alone.
"""

from __future__ import annotations

import ctypes
import tempfile
import threading
import time
from pathlib import Path

import torch
import torch.distributed as dist
from memory import anonymous

from msgrpo_cli.config.compose import compose
from msgrpo_cli.models.loading import load_model, quiet_libraries
from msgrpo_cli.training.parallel.sharding import save_optimizer, share_out, whole_weights

_LOOK = 0.002  # seconds between two looks at memory


def main() -> None:
    """One optimizer step, then twice what a checkpoint takes: the first also imports what it needs."""
    quiet_libraries()
    dist.init_process_group("gloo")
    model, _ = load_model(compose("train", ["model=qwen2-30m", "model.init=random"]).model, 0)
    share_out(model, None)
    optimizer = torch.optim.AdamW(model.parameters())
    model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits.float().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    told = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(2):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            before, most, ended = anonymous(), [0], threading.Event()

            def look(most: list[int] = most, ended: threading.Event = ended) -> None:
                while not ended.is_set():
                    most[0] = max(most[0], anonymous())
                    time.sleep(_LOOK)

            watching = threading.Thread(target=look)
            watching.start()
            whole = whole_weights(model)
            gathered = sum(one.numel() * one.element_size() for one in whole.values())
            place = [str(Path(folder) / str(turn))]
            dist.broadcast_object_list(place)
            save_optimizer(model, optimizer, Path(place[0]), None)
            if dist.get_rank() == 0:
                model.save_pretrained(place[0], state_dict=whole)
            del whole
            ended.set()
            watching.join()
            told.append(f"{(most[0] - before) / 1e6:.0f}")
            dist.barrier()
    everybody: list[str] = [""] * dist.get_world_size()
    dist.all_gather_object(everybody, f"{gathered / 1e6:.0f} MB gathered; saving adds {told[0]}, then {told[1]}")
    if dist.get_rank() == 0:
        for number, line in enumerate(everybody):
            print(f"rank {number} of {len(everybody)}: {line}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
