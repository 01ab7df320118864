"""What many runs say together: groups over seeds, their scores, which of them may be ranked, what they cost.

Knows run directories, sweeps and groups. Knows nothing about rankings, terminals, HTML or figures.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgrpo_cli._version import __version__
from msgrpo_cli.common.files import read_json
from msgrpo_cli.errors import UsageError
from msgrpo_cli.runs.directory import is_run, now
from msgrpo_cli.runs.reader import NOT_STARTED, RunData, finite, read_run

from .findings import compare, notes_on
from .groups import Group, differing_keys, grouped
from .measures import cost_of, curves_of, notable_episodes
from .records import GroupReport, Measure, Report, Score, Unfinished
from .seeds import interquartile_mean, seed_interval

_FIELDS: dict[Measure, str] = {
    "total_reward": "mean_total_reward",
    "success_rate": "success_rate",
    "normalized_score": "normalized_score",
}


def report_on(targets: Sequence[Path]) -> Report:
    """Read sweeps and runs, each named by its directory, and say what they say together.

    Nothing in a run directory ends a report: what cannot be read is named in it. Raises UsageError for a target that
    is neither a sweep nor a run, and for a sweep.json that cannot be read.
    """
    runs: dict[Path, RunData] = {}
    notes: list[str] = []
    for target in targets:
        for run, note in _runs_of(target):
            runs.setdefault(run.path.resolve(), run)
            notes += [note] if note else []
    groups = grouped(runs.values())
    found = tuple(_group_report(group) for group in groups)
    return Report(
        title=_title(targets, len(runs)),
        made=now(),
        version=__version__,
        groups=found,
        differences=differing_keys([group.config for group in groups]),
        comparisons=tuple(compare(*pair) for pair in itertools.combinations(found, 2)),
        unfinished=tuple(_unfinished(run) for run in runs.values() if not run.counts),
        notes=(*notes, *notes_on(groups)),
    )


def is_sweep(path: Path) -> bool:
    """Whether a directory holds a sweep; those of before sweep.json have Hydra's own file alone."""
    return not is_run(path) and any((path / name).is_file() for name in ("sweep.json", "multirun.yaml"))


def _runs_of(target: Path) -> list[tuple[RunData, str | None]]:
    """The runs of a sweep, or the one run, each with a note where one is due."""
    if is_run(target):
        return [(read_run(target), None)]
    if not (target / "sweep.json").is_file():
        if found := sorted(target.glob("*/run.json")):  # of before sweep.json, or gathered by hand
            return [(read_run(file.parent), None) for file in found]
        raise UsageError(f"{target}: neither a sweep nor a run directory (it has no sweep.json and no run.json)")
    told = read_json(target / "sweep.json")
    jobs = told.get("jobs") if isinstance(told, dict) else None
    if not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        raise UsageError(f"{target / 'sweep.json'}: broken: it has no list of jobs")
    return [_job(target, job) for job in jobs]


def _job(sweep: Path, job: Mapping[str, Any]) -> tuple[RunData, str | None]:
    overrides = tuple(map(str, job.get("overrides") or ()))
    name = job.get("run")
    # without a name it is still a job of its own
    path = sweep / str(name) if name else sweep / f"({' '.join(overrides) or 'a job without a name'})"
    run = read_run(path)
    planned, real = job.get("config_hash"), run.record.get("config_hash")
    changed = f"{run.name}: its config is not the one that the sweep planned" if planned and real != planned else None
    changed = changed if real else None
    if run.overrides:
        return run, changed
    return RunData(run.path, run.status, run.problem, run.record, run.config, overrides), changed


def _title(targets: Sequence[Path], runs: int) -> str:
    counted = "1 run" if runs == 1 else f"{runs} runs"
    if len(targets) == 1:
        target = targets[0].resolve()
        if is_run(target):
            return f"run {target.name}"
        return f"{'sweep' if is_sweep(target) else 'runs in'} {target.parent.name}/{target.name}, {counted}"
    return counted


def _unfinished(run: RunData) -> Unfinished:
    reason = "its directory has no run.json" if run.status == NOT_STARTED else run.excuse
    return Unfinished(str(run.path.absolute()), run.standing, run.overrides, reason)


def _group_report(group: Group) -> GroupReport:
    finals = [run.final for run in group.runs if run.final is not None]
    first = finals[0] if finals else {}
    reasons = [str(final["normalized_reason"]) for final in finals if final.get("normalized_reason")]
    return GroupReport(
        letter=group.letter,
        label=group.label,
        game=group.game,
        split=first.get("split"),
        seeds=tuple(group.seeds),
        runs=tuple(str(run.path.absolute()) for run in group.runs),
        scores={measure: _score(finals, field) for measure, field in _FIELDS.items()},
        normalized_reason=reasons[0] if reasons else None,
        random_score=_mean([final.get("random_score") for final in finals]),
        base_score=_mean([final.get("base_score") for final in finals]),
        optimal_score=_mean([final.get("optimal_score") for final in finals]),
        optimal_is_exact=bool(finals) and all(final.get("optimal_is_exact") is True for final in finals),
        cost=cost_of(group.runs, group.others),
        curve=curves_of(group.runs, group.others),
        episodes=tuple(notable_episodes(group.runs)),
    )


def _score(finals: Sequence[Mapping[str, Any]], field: str) -> Score | None:
    values = [finite(final.get(field)) for final in finals]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    mean = sum(known) / len(known)
    return Score(tuple(known), mean, seed_interval(known), interquartile_mean(known))


def _mean(values: Sequence[Any]) -> float | None:
    known = [value for value in map(finite, values) if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
