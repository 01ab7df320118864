"""Many runs from one command line: every job checked first, run by Hydra, told as a table; or going on with a sweep.

Knows jobs by their overrides and their records. Knows nothing about models or training.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgrpo_cli.analysis.report.build import report_on
from msgrpo_cli.analysis.report.page import write_html
from msgrpo_cli.common.lock import locked
from msgrpo_cli.common.signals import asked_to_end, heeding, safe_point
from msgrpo_cli.config import hydra_app
from msgrpo_cli.config.compose import config_dir, config_folders, ids_of
from msgrpo_cli.config.saved import config_hash, dumped, load_saved
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import UsageError
from msgrpo_cli.planning.disk import check_room
from msgrpo_cli.planning.plan import hours
from msgrpo_cli.runs.sweep import UNFINISHED, Job, Sweep, find_sweep

from .nodes import check_nodes
from .run import ready, sound
from .side_by_side import check_gpus, check_nodes_of_a_job, threads_of_a_job
from .sweep_display import SweepDisplay
from .sweep_job import SweepJob

_MOST_CHECKED = 500  # one check takes some 50 ms
_MOST_DIFFERENCES = 5
_SIZES = ("nodes", "tasks_per_node", "gpus_per_node", "cpus_per_task", "timeout_min")
"""What SLURM is asked for."""


def plan(
    overrides: Sequence[str],
    config_dirs: Sequence[Path],
    from_checkpoint: Path | None = None,
    check: Callable[[Sequence[str], Sequence[Path], Path | None], RunConfig] = ready,
) -> list[tuple[list[str], RunConfig | None]] | None:
    """Every job's overrides and checked config; None where a sweeper of a plugin chooses the jobs.

    Beyond the first hundreds a config is None: the launcher's worker checks it.
    """
    jobs = hydra_app.expand(config_dir(), "train", overrides, config_folders(config_dirs))
    if jobs is None:
        _check_search(overrides, config_dirs)
    for job in jobs or ():
        if jobs and jobs.count(job) > 1:
            raise UsageError(f"{' '.join(job)}: the same job twice")
    problems: dict[str, None] = {}
    configs: list[RunConfig] = []
    for job in (hydra_app.corners(overrides) if jobs is None else jobs)[:_MOST_CHECKED]:
        try:
            configs.append(check(job, config_dirs, from_checkpoint))
        except UsageError as problem:
            problems |= dict.fromkeys(str(problem).splitlines())
    if problems:
        raise UsageError("\n".join(problems))
    checked = None
    if jobs is not None:
        checked = list(zip(jobs, [*configs, *[None] * (len(jobs) - len(configs))], strict=True))
    launcher = _settings(overrides, config_dirs, checked, "launcher")
    if (sizes := _slurm_sizes(launcher, overrides, config_dirs)) is not None:
        check_nodes_of_a_job(sizes, configs)
    elif check is ready:
        for config in configs:
            check_nodes(config)
    if check is ready:  # this machine is to run them
        check_gpus(launcher, None if jobs is None else len(jobs), configs)
    return checked


def _slurm_sizes(
    launcher: Mapping[str, Any], overrides: Sequence[str], config_dirs: Sequence[Path]
) -> dict[str, Any] | None:
    """What a job is queued with; None for another launcher. Hydra fills it in once, for all jobs."""
    if "Slurm" not in str(launcher.get("_target_", "")):
        return None
    steady = hydra_app.without_sweeps(overrides)
    return hydra_app.sizes(config_dir(), "train", steady, config_folders(config_dirs), _SIZES)


def _check_search(overrides: Sequence[str], config_dirs: Sequence[Path]) -> None:
    """Raise UsageError for settings of our own sweeper that Optuna has not."""
    steady = hydra_app.without_sweeps(overrides)
    settings = _settings(overrides, config_dirs, None, "sweeper")
    if str(settings["_target_"]).endswith(".OptunaSweeper"):
        from .search import check_settings

        check_settings(settings)
        if len(steady) == len(overrides) and not settings["params"]:
            raise UsageError("hydra/sweeper=optuna: nothing to search; give a key several values, or an interval")


def planned(
    overrides: Sequence[str], config_dirs: Sequence[Path], from_checkpoint: Path | None = None
) -> dict[str, Any] | None:
    """What `sweep --dry-run --json` prints; None where a sweeper chooses the jobs while it runs.

    `hours` are those of `msgrpo plan`, on this machine; null where they are unknown. `slurm` is what each job is
    queued with; null without SLURM.
    """
    jobs = plan(overrides, config_dirs, from_checkpoint, check=sound)
    if jobs is None:
        return None
    directory = _directory(overrides, config_dirs, jobs)
    launcher = _settings(overrides, config_dirs, jobs, "launcher")
    return {
        "sweep": str(directory),
        "slurm": _slurm_sizes(launcher, overrides, config_dirs),
        "jobs": [
            {
                "run": str(directory / hydra_app.hash_of_overrides(texts)),
                "overrides": texts,
                "hours": hours(config) if config else None,
            }
            for texts, config in jobs
        ],
    }


def run_sweep(
    overrides: Sequence[str],
    config_dirs: Sequence[Path],
    command: Sequence[str],
    from_checkpoint: Path | None = None,
    *,
    fail_fast: bool = False,
) -> dict[str, Any]:
    """Run every job; returns what `sweep --json` prints. A job that fails does not end the others."""
    jobs = plan(overrides, config_dirs, from_checkpoint)
    directory = _directory(overrides, config_dirs, jobs).absolute()
    sweep = Sweep(directory)
    if sweep.file.exists() or (directory / "multirun.yaml").exists():
        raise UsageError(
            f"hydra.sweep.dir={directory}: holds a sweep already; go on with msgrpo sweep --resume {directory}"
        )
    for _texts, config in jobs or ():
        if config is not None:
            check_room(config, directory)
    directory.mkdir(parents=True, exist_ok=True)
    sweep.create(
        [
            Job(tuple(texts), directory / hydra_app.hash_of_overrides(texts), config_hash(config) if config else None)
            for texts, config in jobs or ()
        ],
        command=list(command),
        overrides=list(overrides),
        config_dirs=[str(folder) for folder in config_folders(config_dirs)],
        from_checkpoint=None if from_checkpoint is None else str(from_checkpoint.absolute()),
        threads=threads_of_a_job(
            _settings(overrides, config_dirs, jobs, "launcher"), None if jobs is None else len(jobs)
        ),
        expected=_settings(overrides, config_dirs, None, "sweeper").get("n_trials") if jobs is None else len(jobs),
    )
    return _run(sweep, fail_fast)


def resume_sweep(text: str, *, fail_fast: bool = False) -> dict[str, Any]:
    """Run what is missing of the sweep that `text` names; finished jobs stay as they are.

    Raises UsageError where the resolved config of a job has changed since.
    """
    sweep = find_sweep(text)
    sweep = Sweep(sweep.path.absolute())
    record = sweep.record()
    try:
        overrides, folders = record["overrides"], [Path(folder) for folder in record["config_dirs"]]
        source = record["from_checkpoint"]
    except KeyError as problem:
        raise UsageError(f"{sweep.file}: broken: without {problem}") from problem
    if working := [state for state in sweep.states() if state.status == "running" and state.here]:
        raise UsageError(f"{working[0].job.directory}: this job still runs; wait for it or end it")
    checked = plan(overrides, folders, Path(source) if source else None) or []
    configs = {tuple(texts): config for texts, config in checked}
    for job in sweep.jobs():
        if (config := configs.get(job.overrides)) is not None:
            _refuse_change(job, config)
    return _run(sweep, fail_fast)


def _run(sweep: Sweep, fail_fast: bool) -> dict[str, Any]:
    """Let Hydra run the sweep that is recorded in the directory."""
    with locked(sweep.path):
        sweep.stop_file.unlink(missing_ok=True)
        sweep.update_record(status="running", end=None)
        record = sweep.record()
        source, threads = record["from_checkpoint"], record["threads"]
        folders = [Path(folder) for folder in record["config_dirs"]]
        job = SweepJob(
            sweep.path,
            record["command"],
            os.getpid(),
            os.getpgrp(),
            folders,
            Path(source) if source else None,
            fail_fast,
            threads,
        )
        with heeding(None, lambda: None, heard=b""):  # the display says it, whose table it would tear
            try:
                with SweepDisplay(sweep, on_look=lambda: _stop_where_asked(sweep)):
                    hydra_app.run_jobs(
                        config_dir(), "train", job, record["overrides"], sweep.path, multirun=True, user_folders=folders
                    )
                states = sweep.states()
            finally:
                sweep.end("interrupted" if asked_to_end() else "done")
            sweep.stop_file.unlink(missing_ok=True)
            if asked_to_end():
                print(how_to_go_on(sweep.path), file=sys.stderr)
            safe_point()
        write_html(report_on([sweep.path]), sweep.report)
    return {
        "sweep": str(sweep.path), "report": str(sweep.report), "jobs": [state.as_data() for state in states],
    }  # fmt: skip


def how_to_go_on(directory: Path | str) -> str:
    """The line that tells it."""
    return f"go on with: msgrpo sweep --resume {shlex.quote(str(directory))}"


def unfinished(outcome: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The jobs of an outcome that are not done."""
    return [job for job in outcome["jobs"] if job["status"] in UNFINISHED]


def _stop_where_asked(sweep: Sweep) -> None:
    if (reason := asked_to_end()) is not None and not sweep.stop_file.exists():
        sweep.stop_file.write_text(str(reason), encoding="utf-8")


def _refuse_change(job: Job, config: RunConfig) -> None:
    if job.config_hash in (None, config_hash(config)):
        return
    saved = job.directory / "config.yaml"
    changes = ""
    if saved.exists():
        modules = [env_id.partition(":")[0] for env_id in ids_of(config.env.model_dump())]
        before, after = _flat(dumped(load_saved(saved, modules))), _flat(dumped(config))
        found = [
            f"{key}={after.get(key)}, was {before.get(key)}"
            for key in sorted({*before, *after})
            if before.get(key) != after.get(key)
        ]
        changes = ": " + "; ".join(found[:_MOST_DIFFERENCES])
    raise UsageError(
        f"{job.directory}: the config of this job is another one now{changes}; start a new sweep, or put the config "
        "files back"
    )


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _steady(overrides: Sequence[str], jobs: Sequence[tuple[list[str], Any]] | None) -> list[str]:
    """Overrides without several values, to look at what all jobs share."""
    if jobs is None:
        return hydra_app.without_sweeps(overrides)
    hydra_s = [text for text in overrides if text.lstrip("+~").startswith("hydra")]
    return [*hydra_s, *(jobs[0][0] if jobs else [])]


def _directory(overrides: Sequence[str], config_dirs: Sequence[Path], jobs: Any) -> Path:
    folders = config_folders(config_dirs)
    return hydra_app.job_directory(config_dir(), "train", _steady(overrides, jobs), folders, multirun=True)


def _settings(overrides: Sequence[str], config_dirs: Sequence[Path], jobs: Any, part: str) -> dict[str, Any]:
    folders = config_folders(config_dirs)
    return hydra_app.settings(config_dir(), "train", _steady(overrides, jobs), folders, part)
