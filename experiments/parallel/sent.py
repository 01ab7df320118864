"""How many bytes do several processes send each other in an update? Counted by the kernel, beside what is planned.

Knows a run's command line, `msgrpo plan` and the loopback device. Usage, as root on Linux: python
experiments/parallel/sent.py [OVERRIDES...]; CASES names the cases, such as "ddp-2 fsdp-4". Every case is run twice in a
network of its own, where nobody else sends anything, with FEW and with MANY updates: what the longer one sends more,
divided by its further updates and by the processes, is what one process sends in an update. Prints CSV.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile

FEW, MANY = 2, 6
CASES = ("ddp-2", "ddp-4", "fsdp-2", "fsdp-4")
COLUMNS = ("parallel", "processes", "sent", "planned", "gradients", "episodes", "weights")
OF_ITS_OWN = """ip link set lo up && "$@" >&2 && awk '$1 == "lo:" { print $10 }' /proc/net/dev"""


def main() -> None:
    overrides = sys.argv[1:]
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for case in os.environ.get("CASES", " ".join(CASES)).split():
        parallel, _, count = case.partition("-")
        shared = [*overrides, f"parallel={parallel}", f"parallel.processes={count}", "eval.every=0", "eval.episodes=4"]
        few, many = (bytes_of([*shared, f"max_updates={updates}"]) for updates in (FEW, MANY))
        sent = (many - few) / (MANY - FEW) / int(count)
        told = subprocess.run([*msgrpo("plan"), *shared, f"max_updates={MANY}", "--json"], **OUT)  # type: ignore[call-overload]
        planned = json.loads(told.stdout)["bytes_sent_per_update"]
        writer.writerow(
            {"parallel": parallel, "processes": count, "sent": round(sent), "planned": sum(planned.values()), **planned}
        )
        sys.stdout.flush()


OUT = {"check": True, "stdout": subprocess.PIPE, "text": True, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}


def msgrpo(command: str) -> list[str]:
    return [sys.executable, "-m", "msgrpo_cli", command]


def bytes_of(overrides: list[str]) -> int:
    """That a whole run sends."""
    with tempfile.TemporaryDirectory() as folder:
        train = [*msgrpo("train"), *overrides, "save.every=99", f"hydra.run.dir={folder}/run"]
        told = subprocess.run(["unshare", "--net", "sh", "-ec", OF_ITS_OWN, "sh", *train], **OUT)  # type: ignore[call-overload]
    return int(told.stdout)


if __name__ == "__main__":
    main()
