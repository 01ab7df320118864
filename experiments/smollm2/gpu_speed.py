"""Tokens a second of a finished run beside what its device reaches in a bare product of matrices.

Knows a run's metrics and arithmetic. Usage: python gpu_speed.py RUN; prints a line for each phase.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median

import torch

from msgrpo_cli.models.precision import device_for
from msgrpo_cli.training.bench.meter import seconds_of

PARAMETERS = 134_515_008
SIDES = {"cuda": 8192, "cpu": 512}


def reached(device: torch.device) -> float:
    """Operations a second in one large product: in bf16 on a card, in float32 on a CPU."""
    side, on_card = SIDES.get(device.type, SIDES["cpu"]), device.type != "cpu"
    one = torch.randn(side, side, device=device, dtype=torch.bfloat16 if on_card else torch.float32)
    for _ in range(3):
        one @ one
    return 2 * side**3 / min(seconds_of(lambda: one @ one, device) for _ in range(5))


def main(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["kind"] == "train" and not row["skipped"]]
    device = device_for({})
    peak = reached(device)
    print(f"{device}: {peak:.3g} operations a second in one product; {len(rows)} updates, medians")
    for phase, passes in (("rollout", 2), ("update", 6)):
        seconds = median(row[f"perf/seconds_{phase}"] for row in rows)
        decisions = median(row["steps_played"] if phase == "rollout" else row["rows"] for row in rows)
        said = f"{phase}: {seconds:.2f} s, {decisions / seconds:.1f} decisions a second"
        if phase == "update":
            tokens = median(row["tokens_read"] for row in rows)
            share = passes * PARAMETERS * tokens / seconds / peak
            said += f", {tokens / seconds:.0f} tokens a second, {share:.3f} of that arithmetic"
        print(said)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
