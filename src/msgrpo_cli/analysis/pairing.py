"""Which stored evaluations of two runs played the same episodes, and how these pair up.

Knows the files of `eval/`. Knows nothing about statistics, models or games.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from msgrpo_cli.common.files import read_json
from msgrpo_cli.common.jsonl import read_lines
from msgrpo_cli.errors import UsageError
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.reader import RunData, differences, finite, flat, written

_SAME = 1e-9  # scores closer than this are equal
_CONDITIONS = {"env": "env", "split": "eval.split", "episodes": "eval.episodes", "seeds": "the starts (eval.seed)"}
"""Fields of an evaluation that say what was played, and the keys that decide them."""
_FINGERPRINTS = {"random_score": "random play", "optimal_score": "the best known play"}
"""Scores of others on the same starts: equal where the rules are."""

Start = tuple[Any, ...]


@dataclass(frozen=True)
class Stored:
    """One evaluation of a run's best checkpoint."""

    name: str
    """Of its files in `eval/`."""
    said: Mapping[str, Any]
    """The evaluation JSON."""


def same_evaluation(first: RunData, second: RunData) -> tuple[Stored, Stored]:
    """Evaluations of the two best checkpoints on the same episodes: those that ended the runs, or others that
    `msgrpo eval` left. Raises UsageError where there are none, naming what differs."""
    configs = [flat(run.config) for run in (first, second)]
    for a in _stored(first):
        for b in _stored(second):
            games = _apart(configs, "env.") if a.name == b.name == "best" else []
            if not games and not _reasons(a.said, b.said):
                return a, b
    reasons = _apart(configs, "env.") + _apart(configs, "eval.seed", "eval.split", "eval.episodes")
    reasons = reasons or _reasons(first.final or {}, second.final or {})
    raise UsageError(
        f"{first.name} and {second.name} did not play the same evaluation: {'; '.join(reasons)}. Score both with the "
        "same env, eval.seed, eval.split and eval.episodes, and nothing else changed (msgrpo eval RUN KEY=VALUE), then "
        "compare again"
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
    one, other = finite(first), finite(second)
    return one == other or (one is not None and other is not None and abs(one - other) < _SAME)


def _stored(run: RunData) -> Iterator[Stored]:
    """The evaluations of the best checkpoint, the one that ended the run first; of others those that played alike."""
    yield Stored("best", run.final or {})
    best = PurePath(str((run.final or {}).get("checkpoint"))).name
    for file in sorted(Run(run.path).evaluations.glob("*.json")):
        if file.stem in ("best", "base") or not file.with_suffix(".episodes.jsonl").is_file():
            continue
        found = _read(run, file.stem)
        if PurePath(str(found.said.get("checkpoint"))).name == best and _as_the_run_plays(found.said, run):
            yield found


def _as_the_run_plays(said: Mapping[str, Any], run: RunData) -> bool:
    """Whether an evaluation of `msgrpo eval` read prompts and sampled answers as the one that ended the run."""
    return not said.get("overridden") and said.get("sampling") == (run.final or {}).get("sampling")


def _read(run: RunData, name: str) -> Stored:
    found = read_json(Run(run.path).evaluations / f"{name}.json")
    return Stored(name, found if isinstance(found, dict) else {})


def paired(
    runs: tuple[RunData, RunData], evaluations: tuple[Stored, Stored]
) -> dict[Start, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Episodes that both played, by env, seed and state of the start and how often it was met before.

    Raises UsageError where files are cut, or the starts are not the same.
    """
    first, second = (_episodes(run, stored) for run, stored in zip(runs, evaluations, strict=True))
    if first.keys() != second.keys():
        raise UsageError(
            f"{runs[0].name} and {runs[1].name} did not play the same starts: {len(first.keys() - second.keys())} of "
            f"{len(first)} are the first's alone"
        )
    return {key: (first[key], second[key]) for key in first}


def _episodes(run: RunData, stored: Stored) -> dict[Start, Mapping[str, Any]]:
    path = Run(run.path).evaluations / f"{stored.name}.episodes.jsonl"
    met: Counter[Start] = Counter()
    found: dict[Start, Mapping[str, Any]] = {}
    for row in read_lines(path):
        if not isinstance(row, dict) or finite(row.get("total_reward")) is None:
            raise UsageError(f"{path}: broken: line {len(found) + 1} is no episode")
        start = (row.get("env"), row.get("seed"), row.get("state_key"))
        met[start] += 1
        found[(*start, met[start])] = {key: row.get(key) for key in ("total_reward", "success")}
    expected = stored.said.get("episodes")
    if len(found) != expected:
        raise UsageError(f"{path}: holds {len(found)} of {expected} episodes; score the run again with msgrpo eval")
    return found
