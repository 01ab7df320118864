"""Do several processes train as one? A run by one process, by two and by four, and with the fault that must show.

Knows runs on disk. Usage, in the repository: PYTHONPATH=tests python experiments/parallel/parity.py [FOLDER]; prints
and writes parity.csv beside itself. Five updates of 256 episodes of the default run; one thread a process.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from support.ranks import train_on_ranks

HERE = Path(__file__).parent
MANY = "small micro-batches, two steps, two passes, KL"
RUN = (
    "max_updates=5",
    "trainer.lr_scheduler_type=constant",
    "save.every=1",
    "save.keep_last=9",
    "eval.every=0",
    "eval.episodes=16",
)
MORE = (
    "trainer.per_device_train_batch_size=8",
    "algo.optimizer_steps=2",
    "trainer.num_iterations=2",
    "trainer.beta=0.05",
)
COLUMNS = (
    "run",
    "processes",
    "episodes_equal",
    "loss_apart",
    "grad_norm_apart",
    "weights_apart_mean",
    "weights_apart_max",
)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="parity-"))
    rows = []
    alone = trained(folder / "1", 1, "plain", RUN)
    for parallel in ("ddp", "fsdp"):
        for count in (2, 4):
            shared = trained(folder / f"{parallel}-{count}", count, "plain", [*RUN, f"parallel={parallel}"])
            rows.append(compared("plain", f"{count}, {parallel}", shared, alone))
        went_on = folder / f"{parallel}-went-on"
        trained(went_on, 2, "plain", [*RUN, f"parallel={parallel}", "max_updates=3"])
        went = trained(went_on, 4, "plain", [*RUN, f"parallel={parallel}"])
        rows.append(compared("plain", f"2, {parallel}, resumed by 4 after update 3", went, alone))
    around = trained(folder / "around", 2, "plain", [*RUN, "max_updates=1"], around_the_wrapper=True)
    rows.append(compared("plain", "2, passes around torch's wrapper: must be told", around, alone))
    alone = trained(folder / "1", 1, MANY, [*RUN, *MORE])
    for parallel in ("ddp", "fsdp"):
        shared = trained(folder / f"{parallel}-2", 2, MANY, [*RUN, *MORE, f"parallel={parallel}"])
        rows.append(compared(MANY, f"2, {parallel}", shared, alone))
    with (HERE / "parity.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print((HERE / "parity.csv").read_text())


def trained(folder: Path, count: int, name: str, overrides: Sequence[str], *, around_the_wrapper: bool = False) -> Path:
    """The directory of a run by so many processes; one that ended well is not repeated."""
    folder.mkdir(parents=True, exist_ok=True)
    said = train_on_ranks(count, folder, {name: overrides}, around_the_wrapper=around_the_wrapper)
    (folder / f"{name}.txt").write_text(said)
    return folder / name


def compared(name: str, processes: str, run: Path, alone: Path) -> dict[str, Any]:
    """How far two runs are apart; of the first update alone where the run ended there."""
    record = json.loads((run / "run.json").read_text())
    if record["status"] != "done":
        return {"run": name, "processes": processes, "episodes_equal": f"ended: {record['error']}"}
    pairs = list(zip(updates(run), updates(alone), strict=True))
    far = torch.cat([(a - b).abs().flatten() for a, b in zip(weights(run), weights(alone), strict=True)])
    return {
        "run": name,
        "processes": processes,
        "episodes_equal": (run / "episodes.jsonl").read_bytes() == (alone / "episodes.jsonl").read_bytes(),
        "loss_apart": f"{max(abs(a['loss'] - b['loss']) for a, b in pairs):.1e}",
        "grad_norm_apart": f"{max(abs(a['grad_norm'] / b['grad_norm'] - 1) for a, b in pairs):.1e}",
        "weights_apart_mean": f"{float(far.mean()):.1e}",
        "weights_apart_max": f"{float(far.max()):.1e}",
    }


def updates(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == "train"]


def weights(run: Path) -> list[torch.Tensor]:
    last = max((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    stored = load_file(last / "model.safetensors")
    return [stored[name] for name in sorted(stored)]


if __name__ == "__main__":
    main()
