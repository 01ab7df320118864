"""What does each of several processes hold? Bytes of weights, gradients and optimizer, and anonymous memory by phase.

Knows torch's shared-out tensors, the run's phases and /proc. Usage: python memory.py [FILE.csv] [CASE...]
[OVERRIDES...], a case such as none-1, ddp-2 or fsdp-4; every case is a run of its own, whose lines take the place of
those that are there. Linux alone. Memory is what comes on top of what a rank holds when it begins to load the model.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from msgrpo_cli.config.compose import compose
from msgrpo_cli.training import assembly, checkpointing
from msgrpo_cli.training.display import Display
from msgrpo_cli.training.parallel.ranks import ALONE, Ranks
from msgrpo_cli.training.train import follow_job, train_job
from msgrpo_cli.training.trainer import MSGRPOTrainer

HERE = Path(__file__).parent
RUN = (
    "experiment=bench", "model.init=random", "trainer.use_cpu=true", "env.max_steps=2", "max_updates=2", "eval.every=0",
    "eval.episodes=4", "algo.groups_per_update=2", "save.every=1", "algo.group_size=4", "rollout.max_new_tokens=16",
)  # fmt: skip
CASES = ("none-1", "ddp-2", "fsdp-2", "ddp-4", "fsdp-4")
PHASES = ("base", "rollout", "scoring", "update", "checkpoint", "evaluation")
"""Of a run in turn; base: the evaluation of the untrained weights, evaluation: that of the best checkpoint."""
COLUMNS = ("parallel", "processes", "rank", "weights", "gradients", "optimizer", "of_one_process", "libraries", *PHASES)
_LOOK = 0.01  # seconds between two looks at memory


def main() -> None:
    """Run the cases, write and print the table."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "memory.csv")
    more = [word for word in sys.argv[2:] if "=" in word]
    cases = [word for word in sys.argv[2:] if word not in more] or CASES
    rows: list[dict[str, Any]] = list(csv.DictReader(out.open())) if out.exists() else []
    for case in cases:
        rows = [row for row in rows if f"{row['parallel']}-{row['processes']}" != case] + measured(case, more)
        rows.sort(key=lambda row: CASES.index(f"{row['parallel']}-{row['processes']}"))
        with out.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(out.read_text(), flush=True)


def measured(case: str, more: list[str]) -> list[dict[str, Any]]:
    """A line for each rank."""
    parallel, _, count = case.partition("-")
    with tempfile.TemporaryDirectory() as folder:
        agent = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count]
        command = [sys.executable, *([] if count == "1" else agent), __file__, "--rank", folder, parallel, count, *more]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        found = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(int(count))]
    return [{"parallel": parallel, "processes": count, "rank": rank, **one} for rank, one in enumerate(found)]


class Watched:
    """This process, phase by phase."""

    def __init__(self) -> None:
        self.phase, self.most = "loading", defaultdict[str, int](int)
        self.held: dict[str, int] = {}
        self.trained = False
        self.begins = anonymous()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            self.most[self.phase] = max(self.most[self.phase], anonymous())
            time.sleep(_LOOK)

    def enter(self, phase: str) -> None:
        self.trained |= phase == "update"
        self.phase = "base" if phase == "evaluation" and not self.trained else phase

    def hold(self, name: str, tensors: Iterable[Any]) -> None:
        """The bytes that this rank has of them, at most: an update without any signal has no gradients."""
        here = [one.to_local() if hasattr(one, "to_local") else one for one in tensors]
        self.held[name] = max(self.held.get(name, 0), sum(one.numel() * one.element_size() for one in here))

    def told(self) -> dict[str, Any]:
        mb = {phase: f"{(self.most[phase] - self.begins) / 1e6:.0f}" if phase in self.most else "" for phase in PHASES}
        return {
            **self.held,
            "of_one_process": f"{self.held['weights'] / self.held['whole']:.6f}",
            "libraries": f"{self.begins / 1e6:.0f}",
            **mb,
        }


def anonymous() -> int:
    """Bytes of memory that is no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


def rank(folder: Path, parallel: str, count: int, more: list[str]) -> None:
    """The work of one rank, watched."""
    overrides = [*RUN, *more, f"parallel={parallel}", f"parallel.processes={count if count > 1 else 'null'}"]
    config, run = compose("train", overrides), folder / "run"
    ranks = ALONE if count == 1 else Ranks.joined()
    watched = Watched()
    _watch(watched)
    if ranks.first:
        train_job(config, run, command=sys.argv, overrides=overrides, ranks=ranks)
    else:
        follow_job(run, ranks)
    told = watched.told()
    (folder / f"{ranks.rank}.json").write_text(json.dumps({name: told[name] for name in COLUMNS if name in told}))
    os._exit(0)


def _watch(watched: Watched) -> None:
    phase, norm = Display.phase, MSGRPOTrainer._get_grad_norm
    save, evaluate = checkpointing.CheckpointingTrainer._save_checkpoint, assembly.Follower._evaluate

    def told(self: Display, name: str, *more: Any, **others: Any) -> None:
        watched.enter(name)
        phase(self, name, *more, **others)

    def stepping(self: MSGRPOTrainer, *more: Any, **others: Any) -> Any:
        watched.hold("gradients", [one.grad for one in self.model.parameters() if one.grad is not None])
        watched.hold("weights", self.model.parameters())
        watched.held["whole"] = sum(one.numel() * one.element_size() for one in self.model.parameters())
        return norm(self, *more, **others)

    def saving(self: checkpointing.CheckpointingTrainer, *more: Any, **others: Any) -> None:
        optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        kept = [number for state in optimizer.state.values() for number in state.values()]
        watched.hold("optimizer", [one for one in kept if torch.is_tensor(one) and one.dim()])
        watched.enter("checkpoint")
        save(self, *more, **others)
        watched.enter("between")

    def evaluated(self: Any, words: Any) -> Any:
        watched.enter("evaluation")
        return evaluate(self, words)

    Display.phase, MSGRPOTrainer._get_grad_norm = told, stepping  # type: ignore[method-assign]
    checkpointing.CheckpointingTrainer._save_checkpoint = saving  # type: ignore[method-assign]
    assembly.Follower._evaluate = evaluated  # type: ignore[method-assign]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        rank(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5:])
    else:
        main()
