"""What a sweep leaves behind: sweep.json beside the directories of its jobs, and how each of them stands.

Knows a sweep's directory and the records of runs. Knows nothing about Hydra, models or how jobs are run.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

from msgrpo_cli.common.files import SCHEMA, read_json, refuse_newer, write_json
from msgrpo_cli.common.jsonl import last_rows
from msgrpo_cli.errors import UsageError, shown

from .directory import Run, is_run, now
from .process import process_of

JobStatus = Literal["not started", "starting", "running", "done", "failed", "interrupted", "pruned", "lost"]
UNFINISHED: tuple[JobStatus, ...] = ("not started", "starting", "running", "interrupted", "lost", "failed")
LAST_ROWS = 100
"""Of metrics.jsonl, in which the last update and evaluation are looked for."""


@dataclass(frozen=True)
class Job:
    """One combination of overrides."""

    overrides: tuple[str, ...]
    directory: Path
    config_hash: str | None = None
    """Of the resolved config; None where a sweeper chose the job while it ran."""


@dataclass(frozen=True)
class JobState:
    """How a job stands, told from its directory alone."""

    job: Job
    status: JobStatus
    update: int | None = None
    max_updates: int | None = None
    score: float | None = None
    """Mean total reward: of the best checkpoint on the test part once it is done, of the last evaluation before."""
    seconds: float | None = None
    """Of the process that worked on it last."""
    error: str | None = None
    here: bool = False
    """Whether it was this machine that worked on it last."""

    def as_data(self) -> dict[str, Any]:
        """As `sweep --json` prints it."""
        there = self.job.directory.is_dir()
        return {
            "run": str(self.job.directory.absolute()) if there else None,
            "status": self.status,
            "overrides": list(self.job.overrides),
            "error": self.error,
            "log": str(log_of(self.job.directory).absolute()) if log_of(self.job.directory).exists() else None,
        }


@dataclass(frozen=True)
class Sweep:
    """A sweep's directory."""

    path: Path

    @property
    def file(self) -> Path:
        return self.path / "sweep.json"

    @property
    def stop_file(self) -> Path:
        """While it is there no job starts, and running ones end at their next safe point; it holds the reason."""
        return self.path / ".stop"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def create(self, jobs: Sequence[Job], **fields: Any) -> None:
        """Write the record before the first job begins."""
        fields = {"schema": SCHEMA, "status": "running", "start": now(), "end": None, **fields}
        write_json(self.file, {**fields, "jobs": [_as_data(job) for job in jobs]})

    def record(self) -> dict[str, Any]:
        """What sweep.json says. Raises UsageError where it is missing or broken."""
        record = read_json(self.file)
        if not isinstance(record, dict) or not isinstance(record.get("jobs"), list):
            raise UsageError(f"{self.file}: broken: not a sweep's record")
        refuse_newer(self.file, record.get("schema", 0), SCHEMA)
        return record

    def end(self, status: str) -> None:
        """Record the end, and whatever jobs a sweeper chose."""
        self.update_record(status=status, end=now(), jobs=[_as_data(job) for job in self.jobs()])

    def update_record(self, **fields: Any) -> None:
        """Set fields of sweep.json."""
        write_json(self.file, {**self.record(), **fields})

    def jobs(self) -> list[Job]:
        """The jobs of the plan in its order, then those that a sweeper chose, in the order of their start."""
        try:
            planned = [
                Job(tuple(job["overrides"]), self.path / job["run"], job["config_hash"])
                for job in self.record()["jobs"]
            ]
        except (KeyError, TypeError) as problem:
            raise UsageError(f"{self.file}: broken: a job without {problem}") from problem
        known = {job.directory for job in planned}
        return planned + [job for job in self._found() if job.directory not in known]

    def _found(self) -> list[Job]:
        files = sorted(self.path.glob("*/.hydra/overrides.yaml"), key=lambda file: file.stat().st_mtime)
        overrides = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
        # Hydra makes the file first and writes it afterwards: an empty one belongs to a job that only just begins.
        return [
            Job(tuple(own), file.parent.parent) for own, file in zip(overrides, files, strict=True) if own is not None
        ]

    def states(self) -> list[JobState]:
        return [state_of(job) for job in self.jobs()]


def _as_data(job: Job) -> dict[str, Any]:
    return {"overrides": list(job.overrides), "run": job.directory.name, "config_hash": job.config_hash}


def prune_file(directory: Path) -> Path:
    """While it is there a job ends at its next safe point and counts as pruned; it holds the reason."""
    return directory / ".prune"


def log_of(directory: Path) -> Path:
    """Where a job says what it does and how it failed."""
    return directory / "log.txt"


def state_of(job: Job) -> JobState:
    """How a job stands; a record that cannot be read says so as its error."""
    if not is_run(job.directory):
        return JobState(job, "not started")
    run = Run(job.directory)
    try:
        record = run.record()
    except UsageError as problem:
        return JobState(job, "failed", error=str(problem))
    status: JobStatus = record.get("status") or "failed"
    if record.get("pruned"):
        status = "pruned"
    if status == "running" and record.get("pid") is None:
        status = "starting"
    elif status == "running" and (process := process_of(run, record)) and process.alive is False:
        status = "lost"
    best = (record.get("summary") or {}).get("best") or {}
    update, score = _last(run)
    return JobState(
        job,
        status,
        update,
        _max_updates(run.config) if run.config.exists() else None,
        best.get("mean_total_reward", score),
        _seconds(record),
        record.get("error"),
        record.get("host") == socket.gethostname(),
    )


def _last(run: Run) -> tuple[int | None, float | None]:
    """The last update, and the mean total reward of the last evaluation."""
    update, score = None, None
    for row in last_rows(run.metrics, LAST_ROWS):
        if row.get("kind") == "train":
            update = row.get("update")
        elif row.get("kind") == "eval":
            score = row.get("mean_total_reward")
    return update, score


@lru_cache(maxsize=4096)
def _max_updates(config: Path) -> int | None:
    """Of a job whose config is written, which does not change any more."""
    found = re.search(r"^max_updates: (\d+)$", config.read_text(encoding="utf-8"), re.MULTILINE)
    return int(found[1]) if found else None


def _seconds(record: dict[str, Any]) -> float | None:
    try:
        begun = datetime.fromisoformat(record.get("began") or record["start"])
        ended = datetime.fromisoformat(record.get("end") or now())
    except (KeyError, TypeError, ValueError):
        return None
    return (ended - begun).total_seconds()


def find_sweep(text: str, root: Path = Path(".")) -> Sweep:
    """The sweep that `text` names: its directory, `last`, or the beginning of the name of one in multirun/."""
    path = Path(text)
    if (path / "sweep.json").is_file():
        return Sweep(path)
    if path.is_dir():
        raise UsageError(f"{shown(text)}: not a sweep's directory (it has no sweep.json)")
    known = sorted(file.parent for file in root.glob("multirun/*/*/sweep.json"))
    if text == "last" and known:
        return max(map(Sweep, known), key=lambda sweep: str(sweep.record().get("start")))
    fitting = [folder for folder in known if folder.name.startswith(text)]
    if len(fitting) == 1 and text != "last":
        return Sweep(fitting[0])
    found = f"{len(fitting)} sweeps begin so" if fitting else "no such sweep"
    raise UsageError(f"{shown(text)}: {found}; give a sweep's directory, `last`, or the beginning of one name")
