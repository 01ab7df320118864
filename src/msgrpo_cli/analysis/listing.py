"""All runs in a table: what each is, how far it came, what it scores; filtered and sorted by any key.

Knows run records. Knows nothing about terminals. Reads two small files and a tail of each run, so that hundreds are
listed at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from msgrpo_cli.common.text import did_you_mean
from msgrpo_cli.errors import UsageError, shown
from msgrpo_cli.runs.directory import Run, known_runs
from msgrpo_cli.runs.reader import RunData, finite, flat, moment, read_run, written

_RECORDED = (
    "command",
    "overrides",
    "config_hash",
    "commit",
    "versions",
    "device",
    "precision",
    "threads",
    "host",
    "end",
    "stopped",
)
"""Of run.json, shown of a single run."""
_TAIL = 1 << 16  # bytes; the last rows of metrics.jsonl are in them


@dataclass(frozen=True)
class Listed:
    """One line of the list. It is filtered and sorted by these fields, and by the keys of config and record."""

    run: str
    name: str
    status: str
    """As in run.json, or broken."""
    process_is_gone: bool
    env: str | None
    model: str | None
    seed: int | None
    updates: int
    max_updates: int | None
    score: float | None
    """Mean total reward: of the final evaluation, else of the last one on validation."""
    score_split: str | None
    """The part that it was scored on; scores of two parts do not compare."""
    success_rate: float | None
    normalized_score: float | None
    start: str | None
    age_seconds: float | None
    problem: str | None

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def list_runs(root: Path, filters: Sequence[str], sort: str | None, reverse: bool) -> list[Listed]:
    """The runs below outputs/ and multirun/ of `root`, the youngest first unless `sort` names a key.

    Raises UsageError for a filter that is not KEY=VALUE, and for a key that no run has.
    """
    read = [read_run(path) for path in known_runs(root)]
    rows = [(listed(run), run) for run in read]
    for text in filters:
        key, wanted = _filter(text)
        _refuse_unknown("--filter", key, rows)
        rows = [row for row in rows if _fits(_value(key, *row), wanted)]
    if sort is not None:
        _refuse_unknown("--sort", sort, rows)
    known = [row for row in rows if _value(sort or "start", *row) is not None]
    unknown = [row for row in rows if _value(sort or "start", *row) is None]
    known.sort(key=lambda row: _order(_value(sort or "start", *row)), reverse=(sort is None) != reverse)
    return [line for line, _ in (*known, *unknown)]


def listed(run: RunData) -> Listed:
    """The line of a run."""
    summary = run.record.get("summary")
    summary = summary if isinstance(summary, dict) else {}
    best, last = (summary.get(name) for name in ("best", "last"))
    score = best if isinstance(best, dict) else last if isinstance(last, dict) else {}
    start = moment(run.record.get("start"))
    updates = run.config.get("max_updates")
    split = score.get("split")
    return Listed(
        run=str(run.path.absolute()),
        name=run.name,
        status=run.status,
        process_is_gone=run.process_is_gone,
        env=_name(run, "env"),
        model=_name(run, "model"),
        seed=run.seed,
        updates=_updates(run.path),
        max_updates=updates if isinstance(updates, int) else None,
        score=finite(score.get("mean_total_reward")),
        score_split=split if isinstance(split, str) else None,
        success_rate=finite(score.get("success_rate")),
        normalized_score=finite(score.get("normalized_score")),
        start=start.isoformat() if start else None,
        age_seconds=(datetime.now(UTC) - start).total_seconds() if start else None,
        problem=run.problem,
    )


def _name(run: RunData, section: str) -> str | None:
    block = run.config.get(section)
    name = block.get("name") if isinstance(block, dict) else None
    return name if isinstance(name, str) else None


def _updates(path: Path) -> int:
    """How many updates have rows; the last rows may be evaluations, or break off."""
    try:
        with Run(path).metrics.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().splitlines()
    except OSError:
        return 0
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and row.get("kind") == "train" and isinstance(row.get("update"), int):
            return int(row["update"])
    return 0


def _filter(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise UsageError(f"--filter {shown(text)}: not KEY=VALUE, such as status=done or algo.sample_fraction=0.25")
    return key, value


def _value(key: str, line: Listed, run: RunData) -> Any:
    """What a run has under a key: of its line, its config, then its record."""
    own = asdict(line)
    if key in own:
        return own[key]
    config = flat(run.config)
    for name in (key, f"{key}.name"):
        if name in config:
            return config[name]
    return flat(run.record).get(key)


def _fits(value: Any, wanted: str) -> bool:
    if value is not None and written(value) == wanted:
        return True
    try:
        return bool(yaml.safe_load(wanted) == value)
    except yaml.YAMLError:
        return False


def _refuse_unknown(option: str, key: str, rows: Iterable[tuple[Listed, RunData]]) -> None:
    own = dict.fromkeys(field.name for field in fields(Listed))
    known: dict[str, None] = {}
    for _, run in rows:
        keys = {**flat(run.config), **flat(run.record)}
        if any(name in keys or name in own for name in (key, f"{key}.name")):
            return
        known |= dict.fromkeys(keys)
    if known:
        others = [name for name in known if name not in own]
        raise UsageError(f"{option} {shown(key)}: no run has this key{did_you_mean(key, [*others, *own])}")


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers before words."""
    plain = finite(value)
    return plain is None, plain or 0.0, "" if plain is not None else written(value)


def details(run: RunData) -> Mapping[str, Any]:
    """Everything important about one run, as plain data."""
    record, line = run.record, listed(run)
    evaluations = [
        {key: row.get(key) for key in ("update", "split", "mean_total_reward", "success_rate", "normalized_score")}
        for row in run.rows
        if row.get("kind") == "eval"
    ]
    checkpoints = sorted(Run(run.path).checkpoints.glob("checkpoint-*"), key=lambda path: (len(path.name), path.name))
    return {
        **line.to_json(),
        **{key: record.get(key) for key in _RECORDED},
        "base": run.base,
        "final": run.final,
        "evaluations": evaluations,
        "checkpoints": [path.name for path in checkpoints if path.is_dir()],
        "config": run.config,
    }
