"""Doctor's training: a whole run in a folder that is thrown away, which must learn.

Knows the experiment `doctor` and what its success rates look like. Knows nothing about how training works.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import hydra_app
from .config import config_dir, validated
from .errors import RunError
from .runs import Run

_EXPERIMENT = ["experiment=doctor"]
_PART = 4  # updates at the beginning, and as many at the end
_LEAST_RISE = 0.2


def training(overrides: Sequence[str] = ()) -> str:
    """Train; raises what goes wrong, with the phase in a note, and RunError where success does not rise."""
    with _Phase("import"):
        from .train import train_job
    chosen = [*_EXPERIMENT, *overrides]  # of our own files alone: a user's folder may replace any of them
    config = validated(hydra_app.plain(hydra_app.look(config_dir(), "train", chosen, [])))
    with tempfile.TemporaryDirectory(prefix="msgrpo-doctor-") as folder:
        outcome = train_job(config, Path(folder) / "run", command=["msgrpo", "doctor"], overrides=chosen)
        successes = _success_rates(Run(Path(folder) / "run"))
    early, late = _mean(successes[:_PART]), _mean(successes[-_PART:])
    found = f"success went from {early:.2f} to {late:.2f} in {len(successes)} updates of {config.model.name}"
    if late - early < _LEAST_RISE:
        raise RunError(f"{found}: it did not learn, a rise of {_LEAST_RISE} is the least")
    return f"{found} on {config.env.name}, in {outcome['wall_seconds']:.0f} s"


def _success_rates(run: Run) -> list[float]:
    rows = [json.loads(line) for line in run.metrics.read_text(encoding="utf-8").splitlines()]
    return [row["success_rate"] for row in rows if row["kind"] == "train"]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@dataclass
class _Phase:
    """Whatever leaves it carries its name, as that of the phases of a run."""

    name: str

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            error.add_note(f"phase {self.name}")
