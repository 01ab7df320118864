"""Two runs' best checkpoints on the very same episodes: effect, interval, p-value, smallest detectable difference.

Knows stored evaluations and how their episodes pair up. Knows nothing about models, games or terminals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np

from .errors import UsageError
from .report_groups import differences, written
from .run_data import RunData, flat, number, read_run
from .runs import Run
from .statistics import Interval, bootstrap_interval, smallest_detectable_difference
from .whole_files import read_json, read_lines, strict

SCHEMA = 1
LEVEL = 0.05
_FLIPS = 9999
_SAME = 1e-9
_CONDITIONS = {"env": "env", "split": "eval.split", "episodes": "eval.episodes", "seeds": "the starts (eval.seed)"}
"""Fields of an evaluation that say what was played, and the keys that decide them."""
_FINGERPRINTS = {"random_score": "random play", "optimal_score": "the best known play"}
"""Scores of others on the same starts: equal where the rules are."""

Start = tuple[Any, ...]
Verdict = Literal["first is better", "second is better", "no difference found"]


@dataclass(frozen=True)
class Effect:
    """One measure of both, and how far apart they are."""

    measure: str
    means: tuple[float, float]
    """Of the first and of the second, over the episodes."""
    effect: float
    """The second minus the first."""
    ci95: Interval | None
    """Bootstrap over distinct starts; None where no start shows a difference, or where all show the same."""
    p_value: float
    smallest_detectable_difference: float | None
    first_better: int
    second_better: int
    equal: int
    """Episodes."""
    starts_that_differ: int
    """Distinct starts on which one scored more than the other; they decide the p-value."""
    verdict: Verdict


@dataclass(frozen=True)
class Side:
    """One of the two."""

    run: str
    checkpoint: str
    evaluation: str
    """The file that was read, below the run."""


@dataclass(frozen=True)
class PairedComparison:
    """What `msgrpo compare` says."""

    first: Side
    second: Side
    env: str
    split: str
    episodes: int
    distinct_initial_states: int
    total_reward: Effect
    success: Effect | None
    """None where the game declares no success."""
    differences: Mapping[str, tuple[str, str]]
    """Of the two configs; `-` where one has no such key."""

    def to_json(self) -> dict[str, Any]:
        """As strict JSON, the effect on the total reward at the top."""
        data = asdict(self)
        effect = data.pop("total_reward")
        found = strict({"schema": SCHEMA, **effect, **data})
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True)
class _Stored:
    """One evaluation of a run's best checkpoint."""

    name: str
    said: Mapping[str, Any]


def compare_runs(first: Path, second: Path) -> PairedComparison:
    """Pair the episodes of two finished runs. Raises UsageError where they did not play the same evaluation."""
    runs = (read_run(first), read_run(second))
    for run in runs:
        if not run.counts:
            why = f" ({run.excuse})" if run.excuse else ""
            raise UsageError(f"{run.path}: {run.standing}{why}: only runs that are done are compared")
    names = _same_evaluation(*runs)
    pairs = _paired(runs, names)
    starts = [(env, state_key) for env, _, state_key, _ in pairs]
    rewards = _columns([(number(a.get("total_reward")), number(b.get("total_reward"))) for a, b in pairs.values()])
    wins = [(a.get("success"), b.get("success")) for a, b in pairs.values()]
    declared = all(isinstance(won, bool) for pair in wins for won in pair)
    configs = [flat({k: v for k, v in run.config.items() if k not in ("schema", "note")}) for run in runs]
    said = _read(runs[0], names[0]).said
    return PairedComparison(
        first=_side(runs[0], names[0]),
        second=_side(runs[1], names[1]),
        env=str(said["env"]),
        split=str(said["split"]),
        episodes=len(pairs),
        distinct_initial_states=len(set(starts)),
        total_reward=effect_of("total reward", *rewards, starts),
        success=effect_of("success", *_columns(wins), starts) if declared else None,
        differences={
            key: (written(a) if key in configs[0] else "-", written(b) if key in configs[1] else "-")
            for key, (a, b) in sorted(differences(configs).items())
        },
    )


def effect_of(measure: str, first: Sequence[float], second: Sequence[float], starts: Sequence[Hashable]) -> Effect:
    """How far `second` lies above `first`; all have shape (E,), one entry for each episode that both played."""
    apart = [b - a for a, b in zip(first, second, strict=True)]
    low, high = bootstrap_interval(apart, starts)
    totals = _totals(apart, starts)
    p_value = sign_flip_p(totals)
    effect = sum(apart) / len(apart)
    verdict: Verdict = "no difference found"
    if p_value < LEVEL:
        verdict = "second is better" if effect > 0 else "first is better"
    return Effect(
        measure=measure,
        means=(sum(first) / len(first), sum(second) / len(second)),
        effect=effect,
        ci95=(low, high) if high - low >= _SAME else None,
        p_value=p_value,
        smallest_detectable_difference=smallest_detectable_difference(second, first, starts),
        first_better=sum(value < -_SAME for value in apart),
        second_better=sum(value > _SAME for value in apart),
        equal=sum(abs(value) <= _SAME for value in apart),
        starts_that_differ=sum(abs(total) > _SAME for total in totals),
        verdict=verdict,
    )


def sign_flip_p(totals: Sequence[float]) -> float:
    """Two-sided p-value of a paired permutation test of a sum (Fisher 1935); `totals`, shape (C,), one for each start.

    Were the two players alike, the difference on a start would be as likely with the other sign; episodes of one start
    move together, so their total flips as a whole. Chosen over Wilcoxon's test, which drops ties and is about ranks,
    where most rewards are equal and their mean is asked for, and over the t test, since few starts decide and
    differences of successes are -1, 0 or 1. All flips where there are no more than 9999, else as many drawn ones, the
    same each time.
    """
    moving = np.array([total for total in totals if abs(total) > _SAME])  # a zero has no sign to flip
    if not len(moving):
        return 1.0
    from scipy.stats import permutation_test

    found = permutation_test(
        (moving,), np.sum, permutation_type="samples", vectorized=True, n_resamples=_FLIPS, batch=500, rng=0
    )
    return float(found.pvalue)


def _totals(values: Sequence[float], starts: Sequence[Hashable]) -> list[float]:
    totals: dict[Hashable, float] = {}
    for start, value in zip(starts, values, strict=True):
        totals[start] = totals.get(start, 0.0) + value
    return list(totals.values())


def warnings_on(effect: Effect) -> list[str]:
    """What a reader might trip over."""
    excluded = effect.ci95 is not None and not effect.ci95[0] <= 0 <= effect.ci95[1]
    if excluded == (effect.p_value < LEVEL):
        return []
    return [
        f"Interval and p-value disagree: {effect.starts_that_differ} starts decide. The verdict follows the p-value, "
        "which holds for any number of starts; the interval needs many."
    ]


def sentence(found: PairedComparison) -> str:
    """The verdict in one sentence."""
    effect = found.total_reward
    p = f"p = {effect.p_value:.2g}" if effect.p_value >= 0.001 else "p < 0.001"
    if effect.verdict == "no difference found":
        smallest = effect.smallest_detectable_difference
        told = (
            "on every start both score alike, or all starts differ by as much"
            if smallest is None
            else f"80 % of such comparisons would show one of {smallest:.3f} or more"
        )
        return f"No difference found in total reward ({p}); {told}."
    better, worse = ("B", "A") if effect.verdict == "second is better" else ("A", "B")
    return f"{better} scores {abs(effect.effect):.3f} more total reward an episode than {worse} ({p})."


def _same_evaluation(first: RunData, second: RunData) -> tuple[str, str]:
    """The names of two evaluations of the best checkpoints on the same episodes: those that ended the runs, or others
    that `msgrpo eval` left."""
    configs = [flat(run.config) for run in (first, second)]
    for a in _stored(first):
        for b in _stored(second):
            games = _apart(configs, "env.") if a.name == b.name == "best" else []
            if not games and not _reasons(a.said, b.said):
                return a.name, b.name
    a, b = first.final or {}, second.final or {}
    reasons = _apart(configs, "env.") + _apart(configs, "eval.seed", "eval.split", "eval.episodes") or _reasons(a, b)
    raise UsageError(
        f"{first.name} and {second.name} did not play the same evaluation: {'; '.join(reasons)}. Score both with the "
        "same env, eval.seed, eval.split and eval.episodes (msgrpo eval RUN KEY=VALUE), then compare again"
    )


def _apart(configs: Sequence[Mapping[str, Any]], *keys: str) -> list[str]:
    """What differs under these keys, in words; of another game its name alone."""
    found = differences([{k: v for k, v in config.items() if k.startswith(keys)} for config in configs])
    if "env.name" in found:
        found = {"env.name": found["env.name"]}
    return [f"{key.removesuffix('.name')} is {written(a)} and {written(b)}" for key, (a, b) in found.items()]


def _reasons(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    reasons = [
        f"{words}: {written(first.get(key))} and {written(second.get(key))}"
        for key, words in _CONDITIONS.items()
        if first.get(key) != second.get(key)
    ]
    if reasons:
        return reasons
    return [
        f"the rules of the game: {words} scores {written(a)} and {written(b)}"
        for key, words in _FINGERPRINTS.items()
        if not _alike(a := first.get(key), b := second.get(key))
    ]


def _alike(first: Any, second: Any) -> bool:
    one, other = number(first), number(second)
    return one == other or (one is not None and other is not None and abs(one - other) < _SAME)


def _stored(run: RunData) -> Iterator[_Stored]:
    """The evaluations of the best checkpoint, the one that ended the run first."""
    yield _Stored("best", run.final or {})
    best = PurePath(str((run.final or {}).get("checkpoint"))).name
    for file in sorted(Run(run.path).evaluations.glob("*.json")):
        if file.stem in ("best", "base") or not file.with_suffix(".episodes.jsonl").is_file():
            continue
        found = _read(run, file.stem)
        if PurePath(str(found.said.get("checkpoint"))).name == best:
            yield found


def _read(run: RunData, name: str) -> _Stored:
    found = read_json(Run(run.path).evaluations / f"{name}.json")
    return _Stored(name, found if isinstance(found, dict) else {})


def _paired(
    runs: tuple[RunData, RunData], names: tuple[str, str]
) -> dict[Start, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Episodes that both played, by env, seed and state of the start and how often it was met before."""
    first, second = (_episodes(run, name) for run, name in zip(runs, names, strict=True))
    if first.keys() != second.keys():
        raise UsageError(
            f"{runs[0].name} and {runs[1].name} did not play the same starts: {len(first.keys() - second.keys())} of "
            f"{len(first)} are the first's alone"
        )
    return {key: (first[key], second[key]) for key in first}


def _episodes(run: RunData, name: str) -> dict[Start, Mapping[str, Any]]:
    path = Run(run.path).evaluations / f"{name}.episodes.jsonl"
    met: Counter[Start] = Counter()
    found: dict[Start, Mapping[str, Any]] = {}
    for row in read_lines(path):
        if not isinstance(row, dict) or number(row.get("total_reward")) is None:
            raise UsageError(f"{path}: broken: line {len(found) + 1} is no episode")
        start = (row.get("env"), row.get("seed"), row.get("state_key"))
        met[start] += 1
        found[(*start, met[start])] = {key: row.get(key) for key in ("total_reward", "success")}
    expected = _read(run, name).said.get("episodes")
    if len(found) != expected:
        raise UsageError(f"{path}: holds {len(found)} of {expected} episodes; score the run again with msgrpo eval")
    return found


def _columns(pairs: Sequence[tuple[Any, Any]]) -> tuple[list[float], list[float]]:
    return [float(a) for a, _ in pairs], [float(b) for _, b in pairs]


def _side(run: RunData, name: str) -> Side:
    said = _read(run, name).said
    return Side(str(run.path), str(said.get("checkpoint")), f"eval/{name}.json")
