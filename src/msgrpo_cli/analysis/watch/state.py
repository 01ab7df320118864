"""What can be known of a run from its directory, again and again: status, phase, rows, time left.

Knows the files of a run, which may be half written. Knows nothing about terminals.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import fmean, median
from typing import Any

import yaml

from msgrpo_cli.common.jsonl import FollowedRows, Row, last_rows
from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.process import RunProcess, last_sign, process_of
from msgrpo_cli.runs.progress import Progress, read_progress

_RECENT = 20  # updates whose mean says how long the next ones take
_EPISODES = 8  # of the end of episodes.jsonl


@dataclass(frozen=True)
class PhaseSeconds:
    """What one phase took."""

    last: float
    median: float
    total: float


@dataclass
class WatchedRun:
    """The state of a run as of the last `look`."""

    run: Run
    record: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    progress: Progress | None = None
    process: RunProcess | None = None
    episodes: list[Row] = field(default_factory=list)
    metrics: FollowedRows = field(init=False)
    last_sign: float | None = None
    """When the run last wrote (seconds since the epoch)."""

    def __post_init__(self) -> None:
        self.metrics = FollowedRows(self.run.metrics)

    def look(self) -> None:
        """Read what is new. Raises RunError where the run directory is gone, UsageError for a record never readable."""
        self._read_record()
        self.process = process_of(self.run, self.record) if self.status == "running" else None
        if self.died:
            self._read_record()  # it may have ended well between the two looks
        self.progress = read_progress(self.run.progress) if self.status == "running" else None
        self.metrics.look()
        self.last_sign = last_sign(self.run)
        self.episodes = last_rows(self.run.episodes, _EPISODES)
        if not self.config or self.updates > self.max_updates:
            self._read_config()

    def _read_record(self) -> None:
        try:
            self.record = self.run.record()
        except UsageError:
            if not (self.run.path / "run.json").exists():
                raise RunError(f"{self.run.path}: removed while it was watched") from None
            if not self.record:
                raise

    def _read_config(self) -> None:
        try:
            found = yaml.safe_load(self.run.config.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            return
        if isinstance(found, dict):
            self.config = found

    @property
    def status(self) -> str:
        """As run.json says; `running` also of a run whose process has died."""
        return str(self.record.get("status") or "unknown")

    @property
    def died(self) -> bool:
        """It is said to run, but its process is gone."""
        return self.status == "running" and self.process is not None and self.process.alive is False

    @property
    def ended(self) -> bool:
        """Nothing more will come."""
        return self.status != "running" or self.died

    @property
    def resume(self) -> str | None:
        """The command that goes on with a run that has ended before its time."""
        if self.status == "done" or not self.ended:
            return None
        return f"msgrpo train --resume {shlex.quote(str(self.run.path))}"

    @property
    def train_rows(self) -> list[Row]:
        return [row for row in self.metrics.rows if row.get("kind") == "train" and isinstance(row.get("update"), int)]

    @property
    def updates(self) -> int:
        """Finished ones."""
        return max((row["update"] for row in self.train_rows), default=0)

    @property
    def max_updates(self) -> int:
        """0 where it is not known."""
        found = self.config.get("max_updates")
        return found if isinstance(found, int) else 0

    @property
    def title(self) -> str:
        """Model and game."""
        names = [(self.config.get(group) or {}).get("name") for group in ("model", "env")]
        return " on ".join(str(name) for name in names if name is not None)

    def seconds(self) -> dict[str, PhaseSeconds]:
        """Of every phase that was measured; one value an update, or an evaluation."""
        found = {}
        for name, key in _MEASURED.items():
            values = [float(row[key]) for row in self.metrics.rows if isinstance(row.get(key), (int, float))]
            if values:
                found[name] = PhaseSeconds(values[-1], median(values), sum(values))
        return found

    def seconds_left(self) -> float | None:
        """About; by the latest updates and evaluation. None where nothing is known, or nothing is to come."""
        recent = [row["perf/seconds_total"] for row in self.train_rows[-_RECENT:] if row.get("perf/seconds_total")]
        to_come = self.max_updates - self.updates
        if self.ended or not recent or to_come < 0:
            return None
        every = (self.config.get("eval") or {}).get("every") or 0
        evaluations = 1 + (
            self.max_updates // every - self.updates // every if every else 0
        )  # the last one on the best
        each = self.seconds().get("evaluation")
        return to_come * fmean(recent) + evaluations * (each.last if each else 0.0)

    def seconds_in_phase(self, now: datetime | None = None) -> float | None:
        """How long the present phase has lasted."""
        try:
            since = datetime.fromisoformat(self.progress.since) if self.progress else None
        except ValueError:
            return None
        return None if since is None else max(0.0, ((now or datetime.now(UTC)) - since).total_seconds())


_MEASURED = {
    "rollout": "perf/seconds_rollout",
    "scoring": "perf/seconds_scoring",
    "update": "perf/seconds_update",
    "evaluation": "perf/wall_seconds",
}


def points(rows: Sequence[Row], key: str) -> list[tuple[float, float]]:
    """(update, value) of the rows that know both."""
    known = [(row.get("update"), row.get(key)) for row in rows]
    return [(float(x), float(y)) for x, y in known if isinstance(x, (int, float)) and isinstance(y, (int, float))]
