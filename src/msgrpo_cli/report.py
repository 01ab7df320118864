"""What many runs say together: groups over seeds, their scores, which of them may be ranked, what they cost.

Knows run directories, sweeps, groups and statistics over seeds. Knows nothing about terminals, HTML or figures.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from . import __version__
from .errors import UsageError
from .report_costs import Cost, cost_of
from .report_curves import Curve, curves_of
from .report_episodes import Notable, notable_episodes
from .report_groups import Group, differences, grouped, written
from .report_notes import notes_on
from .run_data import NOT_STARTED, RunData, number, read_run
from .runs import is_run, now
from .seed_statistics import interquartile_mean, overlap, probability_of_improvement, seed_interval, smallest_p
from .statistics import Interval
from .whole_files import read_json, strict

SCHEMA = 1
Measure = Literal["total_reward", "success_rate", "normalized_score"]
_FIELDS: dict[Measure, str] = {
    "total_reward": "mean_total_reward",
    "success_rate": "success_rate",
    "normalized_score": "normalized_score",
}
MEASURES: dict[Measure, str] = {
    "total_reward": "total reward",
    "success_rate": "success",
    "normalized_score": "normalised score",
}
"""The words for each."""
_USUAL = 0.05  # level of a test


@dataclass(frozen=True)
class Score:
    """One number for each seed, and what they say together."""

    values: tuple[float, ...]
    """In the order of the group's seeds."""
    mean: float
    ci95: Interval | None
    """Bootstrap over seeds; None with one seed, and where all seeds score alike."""
    interquartile_mean: float


@dataclass(frozen=True)
class GroupReport:
    """What the report says about one group."""

    letter: str
    label: str
    game: str
    """Equal for groups that play the same game."""
    split: str | None
    """The part of the state space that the final evaluation played."""
    seeds: tuple[int, ...]
    """Those whose runs are done."""
    runs: tuple[str, ...]
    """Their directories."""
    scores: Mapping[str, Score | None]
    """By measure; None where a run has no such number."""
    normalized_reason: str | None
    """Why there is no normalised score."""
    random_score: float | None
    base_score: float | None
    """Mean over the runs of what the untrained weights scored."""
    optimal_score: float | None
    optimal_is_exact: bool
    cost: Cost
    curve: Curve
    episodes: tuple[Notable, ...]


@dataclass(frozen=True)
class Comparison:
    """Two groups."""

    first: str
    second: str
    """Letters."""
    measure: Measure | None
    """What they are compared by; None where nothing is comparable."""
    probability_of_improvement: float | None
    """That a seed of the first scores above one of the second, ties counted half."""
    probability_ci95: Interval | None
    verdict: Literal["above", "below", "not ranked", "not compared"]
    reason: str


@dataclass(frozen=True)
class Unfinished:
    """A job or run that does not count, and why."""

    run: str
    """Its directory, which need not exist."""
    status: str
    overrides: tuple[str, ...]
    reason: str | None


@dataclass(frozen=True)
class Report:
    """Everything that a page or a terminal shows."""

    title: str
    made: str
    version: str
    groups: tuple[GroupReport, ...]
    differences: Mapping[str, tuple[str, ...]]
    """Dotted key: its value in each group, as written; `-` where a group has no such key."""
    comparisons: tuple[Comparison, ...]
    unfinished: tuple[Unfinished, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As strict JSON; steps of episodes are left to the page and the files."""
        data = asdict(self)
        for group in data["groups"]:
            for episode in group["episodes"]:
                episode.pop("steps")
        found = strict({"schema": SCHEMA, **data})
        assert isinstance(found, dict)
        return found


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
    table = differences([group.config for group in groups])
    return Report(
        title=_title(targets, len(runs)),
        made=now(),
        version=__version__,
        groups=found,
        differences={
            key: tuple(written(group.config[key]) if key in group.config else "-" for group in groups)
            for key in sorted(table)
        },
        comparisons=tuple(_compare(*pair) for pair in itertools.combinations(found, 2)),
        unfinished=tuple(_unfinished(run) for run in runs.values() if not run.counts),
        notes=(*notes, *notes_on(groups)),
    )


def is_sweep(path: Path) -> bool:
    """Whether a directory holds a sweep."""
    return (path / "sweep.json").is_file() or (path.is_dir() and not is_run(path) and any(path.glob("*/run.json")))


def _runs_of(target: Path) -> list[tuple[RunData, str | None]]:
    """The runs of a sweep, or the one run, each with a note where one is due."""
    if is_run(target):
        return [(read_run(target), None)]
    if not (target / "sweep.json").is_file():
        if is_sweep(target):  # of before sweep.json, or gathered by hand
            return [(read_run(file.parent), None) for file in sorted(target.glob("*/run.json"))]
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
        what = f"sweep {target.parent.name}/{target.name}" if is_sweep(target) else f"run {target.name}"
        return f"{what}, {counted}" if is_sweep(target) else what
    return counted


def _unfinished(run: RunData) -> Unfinished:
    reason = "its directory has no run.json" if run.status == NOT_STARTED else run.excuse
    return Unfinished(str(run.path), run.standing, run.overrides, reason)


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
        runs=tuple(str(run.path) for run in group.runs),
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
    values = [number(final.get(field)) for final in finals]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    mean = sum(known) / len(known)
    return Score(tuple(known), mean, seed_interval(known), interquartile_mean(known))


def _mean(values: Sequence[Any]) -> float | None:
    known = [value for value in map(number, values) if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _compare(a: GroupReport, b: GroupReport) -> Comparison:
    measure, why = _common_measure(a, b)
    one, other = (a.scores[measure], b.scores[measure]) if measure else (None, None)
    if measure is None or one is None or other is None:
        return Comparison(a.letter, b.letter, None, None, None, "not compared", why)
    probability, interval = probability_of_improvement(one.values, other.values)
    verdict, reason = _verdict(a, b, one, other)
    reasons = "; ".join(text for text in (reason, why) if text)
    return Comparison(a.letter, b.letter, measure, probability, interval, verdict, reasons)


def _common_measure(a: GroupReport, b: GroupReport) -> tuple[Measure | None, str]:
    """What two groups may be compared by, and what there is to say about it.

    Total rewards of different games, or on other parts of one, are different things.
    """
    if not (a.seeds and b.seeds):
        return None, f"{a.letter if not a.seeds else b.letter} has no finished run"
    if (a.game, a.split) == (b.game, b.split):
        return "total_reward", ""
    what = "different games" if a.game != b.game else f"different parts, {a.split} and {b.split}"
    for report in (a, b):
        if report.scores["normalized_score"] is None:
            reason = report.normalized_reason or "unknown"
            return None, f"{what}, and {report.letter} has no normalised score: {reason}"
    exact = a.optimal_is_exact and b.optimal_is_exact
    return "normalized_score", what if exact else f"{what}; 1 is the best known play, which need not be optimal"


def _verdict(
    a: GroupReport, b: GroupReport, one: Score, other: Score
) -> tuple[Literal["above", "below", "not ranked"], str]:
    for report, score in ((a, one), (b, other)):
        if score.ci95 is None:
            lacking = "has one seed" if len(score.values) == 1 else "scores alike with every seed"
            return "not ranked", f"{report.letter} {lacking}, so no interval over seeds exists"
    assert one.ci95 is not None
    assert other.ci95 is not None
    if overlap(one.ci95, other.ci95):
        return "not ranked", "the intervals overlap"
    chance = smallest_p(len(one.values), len(other.values))
    few = (
        f", but with {len(one.values)} and {len(other.values)} seeds even complete separation has p = {chance:.2f}"
        if chance > _USUAL
        else ""
    )
    return ("above" if one.mean > other.mean else "below"), f"the intervals do not overlap{few}"


def ranking(report: Report) -> list[str]:
    """What may be said about the order of the groups, in sentences."""
    if len(report.groups) < 2:
        return ["There is one group, so there is nothing to rank."]
    lines = []
    for comparison in report.comparisons:
        if comparison.verdict in ("above", "below"):
            better, worse = (
                (comparison.first, comparison.second)
                if comparison.verdict == "above"
                else (comparison.second, comparison.first)
            )
            assert comparison.measure is not None
            lines.append(f"{better} is above {worse} in {MEASURES[comparison.measure]}: {comparison.reason}.")
    undecided = [pair for pair in report.comparisons if pair.verdict == "not ranked"]
    apart = [pair for pair in report.comparisons if pair.verdict == "not compared"]
    if undecided:
        reasons: dict[str, list[str]] = {}
        for pair in undecided:
            reasons.setdefault(pair.reason, []).append(f"{pair.first} and {pair.second}")
        lines += [f"Not ranked: {', '.join(pairs)} ({reason})." for reason, pairs in reasons.items()]
    lines += [f"Not compared: {pair.first} and {pair.second} ({pair.reason})." for pair in apart]
    if not any(pair.verdict in ("above", "below") for pair in report.comparisons):
        lines.insert(0, "No ranking.")
    return lines
