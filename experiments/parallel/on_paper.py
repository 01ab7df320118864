"""On paper: what does an update take with 1 to 64 GPUs, and what is full first? Nothing here was run on a GPU.

Knows `msgrpo plan` and speeds of networks, as sold. Usage: python experiments/parallel/on_paper.py [OVERRIDES...];
prints CSV. Seconds of work and bytes are the plan's. A ring passes what each process sends once over the link between
two GPUs, and where there are several machines once into and out of each: it takes as long as the slower of both lets
through. Nothing overlaps, which is the worst case: torch sends gradients while others are still computed.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from typing import Any

EIGHT = 8
COUNTS = (1, 2, 4, 8, 16, 32, 64)
NVLINK = 450e9  # bytes a second and direction of a card, as sold (NVLink 4)
NETWORKS = {"100 Gbit/s": 12.5e9, "8 x 400 Gbit/s": 400e9}  # bytes a second and direction of a machine of EIGHT
OF_SOLD = 0.7  # what is reached of what is sold; an assumption
COLUMNS = (
    "groups", "processes", "rollout", "training", "sends_GB", *NETWORKS, "speedup", "without_sending",
)  # fmt: skip


def main() -> None:
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for groups in (16, 64):
        alone = None
        for count in COUNTS:
            plan = planned(groups, count)
            alone = alone or plan["seconds_per_update"]
            sends = sum(plan["bytes_sent_per_update"].values())
            speeds = {name: NVLINK if count <= EIGHT else min(NVLINK, speed) for name, speed in NETWORKS.items()}
            seconds = {name: plan["seconds_per_update"] + sends / speed / OF_SOLD for name, speed in speeds.items()}
            ratio = " / ".join(f"{alone / one:.1f}" for one in seconds.values())
            writer.writerow(
                {
                    "groups": groups,
                    "processes": count,
                    "rollout": round(plan["seconds_rollout"], 2),
                    "training": round(plan["seconds_training"], 2),
                    "sends_GB": round(sends / 1e9, 2),
                    **{name: round(one, 2) for name, one in seconds.items()},
                    "speedup": ratio,
                    "without_sending": round(alone / plan["seconds_per_update"], 1),
                }
            )


def planned(groups: int, count: int) -> dict[str, Any]:
    parallel = ["parallel=none"] if count == 1 else ["parallel=ddp", f"parallel.processes={count}"]
    words = [*parallel, f"algo.groups_per_update={groups}", *sys.argv[1:], "--hardware", "h200", "--json"]
    command = [sys.executable, "-m", "msgrpo_cli", "plan", *words]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(told)
    return found


if __name__ == "__main__":
    main()
