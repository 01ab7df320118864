"""`msgrpo sweep`: what may be typed, and what is printed of a sweep.

Knows arguments and options. The work is `launch/sweep`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from msgrpo_cli.common.console import talk_on_stderr
from msgrpo_cli.errors import RunError, UsageError

from ..exit import ending
from ..options import AsJson, ConfigDirs, DryRun, Overrides, Verbose, only_overrides

_SHORTEST = 0.1  # minutes


def sweep(
    overrides: Overrides = None,
    resume: Annotated[
        str | None, typer.Option(metavar="SWEEP", help="Run what is missing: directory, `last`, prefix.")
    ] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="End the others where a job fails.")] = False,
    dry_run: DryRun = False,
    config_dir: ConfigDirs = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Train once for every combination of values.

    Such as: msgrpo sweep seed=0,1,2 env=frozenlake,frozenlake_8x8.
    """
    with ending(verbose):
        texts = only_overrides(overrides)
        if resume is not None and (texts or config_dir or dry_run):
            given = texts[0] if texts else "--config-dir" if config_dir else "--dry-run"
            raise UsageError(f"{given}: a sweep goes on as it began; leave it out beside --resume")
        run_or_show(texts, config_dir or [], None, resume=resume, fail_fast=fail_fast, dry_run=dry_run, as_json=as_json)


def run_or_show(
    overrides: Sequence[str],
    folders: Sequence[Path],
    weights: Path | None,
    *,
    resume: str | None = None,
    fail_fast: bool = False,
    dry_run: bool = False,
    as_json: bool = False,
) -> None:
    """Run a sweep, go on with one, or list its jobs; ends the process with 1 where a job is not done."""
    from msgrpo_cli.launch import sweep as sweeps

    if dry_run:
        plan = sweeps.planned(overrides, folders, weights)
        print(json.dumps(plan, allow_nan=False) if as_json else _listed(plan))
        return
    with talk_on_stderr():
        if resume is not None:
            outcome = sweeps.resume_sweep(resume, fail_fast=fail_fast)
        else:
            outcome = sweeps.run_sweep(overrides, folders, sys.argv, weights, fail_fast=fail_fast)
    lines = [f"{job['status']}\t{job['run'] or '-'}\t{' '.join(job['overrides'])}" for job in outcome["jobs"]]
    print(json.dumps(outcome, allow_nan=False) if as_json else "\n".join(lines))
    if not as_json and sys.stdout.isatty():
        from rich.console import Console

        from msgrpo_cli.analysis.report.build import report_on
        from msgrpo_cli.analysis.report.text import show

        show(report_on([Path(outcome["sweep"])]), Console())
    print(f"report: {outcome['report']}", file=sys.stderr)
    left = sweeps.unfinished(outcome)
    for job in left:
        reason = job["error"] or job["status"]
        log = f"; {job['log']}" if job["log"] else ""
        print(f"{job['status']}: {' '.join(job['overrides'])}: {reason}{log}", file=sys.stderr)
    if left:
        print(sweeps.how_to_go_on(outcome["sweep"]), file=sys.stderr)
        sys.exit(RunError.exit_code)


def _listed(plan: dict[str, Any] | None) -> str:
    if plan is None:
        return "the sweeper decides while it runs"
    lines = [f"{job['run']}\t{_hours(job['hours'])}\t{' '.join(job['overrides'])}" for job in plan["jobs"]]
    known = [job["hours"] for job in plan["jobs"] if job["hours"] is not None]
    total = (
        f", {'' if sum(known) * 60 < _SHORTEST else 'about '}{_hours(sum(known))} one after the other"
        if len(known) == len(lines)
        else ""
    )
    asked = " ".join(f"{name}={value}" for name, value in (plan["slurm"] or {}).items())
    return "\n".join([*lines, f"{len(lines)} jobs{total}", *([f"each is queued with {asked}"] if asked else [])])


def _hours(hours: float | None) -> str:
    if hours is None:
        return "?"
    if 60 * hours < _SHORTEST:
        return f"under {_SHORTEST} min"
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
