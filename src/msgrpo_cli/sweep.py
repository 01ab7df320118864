"""Many runs from one command line: every job checked first, then run by Hydra, then told as a list.

Knows jobs by their overrides and their records. Knows nothing about models or training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from . import hydra_app
from .config import config_dir, config_folders
from .errors import UsageError
from .jobs import TrainJob, ready
from .runs import Run, is_run

_MOST_CHECKED = 500  # one check takes some 50 ms


def plan(
    overrides: Sequence[str], config_dirs: Sequence[Path], from_checkpoint: Path | None = None
) -> list[list[str]] | None:
    """Every job's overrides, each composed and checked; None where a sweeper of a plugin chooses them."""
    jobs = hydra_app.expand(config_dir(), "train", overrides, config_folders(config_dirs))
    if jobs is None:
        return None
    for job in jobs:
        if jobs.count(job) > 1:
            raise UsageError(f"{' '.join(job)}: the same job twice")
    problems: dict[str, None] = {}
    for job in jobs[:_MOST_CHECKED]:
        try:
            ready(job, config_dirs, from_checkpoint)
        except UsageError as problem:
            problems |= dict.fromkeys(str(problem).splitlines())
    if problems:
        raise UsageError("\n".join(problems))
    return jobs


def run_sweep(
    overrides: Sequence[str], config_dirs: Sequence[Path], command: list[str], from_checkpoint: Path | None = None
) -> dict[str, Any]:
    """Run every job; returns what `sweep --json` prints. A job that fails does not end the others."""
    jobs = plan(overrides, config_dirs, from_checkpoint)
    folders = config_folders(config_dirs)
    steady = overrides if jobs is None else [*_hydra_overrides(overrides), *(jobs[0] if jobs else [])]
    directory = hydra_app.job_directory(config_dir(), "train", steady, folders, multirun=True)
    if (directory / "multirun.yaml").exists():
        raise UsageError(f"hydra.sweep.dir={directory}: holds a sweep already")
    job = TrainJob(command, from_checkpoint, config_dirs=config_dirs, in_sweep=True)
    hydra_app.run_jobs(config_dir(), "train", job, overrides, directory, multirun=True, user_folders=folders)
    return {"sweep": str(directory.absolute()), "jobs": outcomes(directory, jobs or [])}


def outcomes(directory: Path, planned: Sequence[list[str]]) -> list[dict[str, Any]]:
    """What became of each job, in the order of the plan; those that a plugin's sweeper chose come after."""
    found = {
        tuple(yaml.safe_load(file.read_text(encoding="utf-8"))): file.parent.parent
        for file in sorted(directory.glob("**/.hydra/overrides.yaml"))
    }
    order = [tuple(job) for job in planned] + [job for job in found if list(job) not in planned]
    return [_outcome(found.get(job), list(job)) for job in order]


def _outcome(run_dir: Path | None, overrides: list[str]) -> dict[str, Any]:
    if run_dir is None:
        return {"run": None, "status": "not started", "overrides": overrides}
    status = Run(run_dir).record()["status"] if is_run(run_dir) else "failed"
    return {"run": str(run_dir.absolute()), "status": status, "overrides": overrides}


def _hydra_overrides(overrides: Sequence[str]) -> list[str]:
    return [text for text in overrides if text.lstrip("+~").startswith("hydra")]
