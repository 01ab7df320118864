"""What a run directory says about its run, read so that nothing in it can end a command.

Knows the files of a run and what may be wrong with them. Knows nothing about statistics or how runs are shown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from msgrpo_cli.common.files import read_json
from msgrpo_cli.common.jsonl import read_lines
from msgrpo_cli.errors import UsageError

from .directory import Run, is_run
from .process import process_of

NOT_STARTED, BROKEN = "not started", "broken"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # four times as fast, where PyYAML was built with it


@dataclass(frozen=True)
class RunData:
    """One run as its directory tells it."""

    path: Path
    status: str
    """running, done, failed or interrupted as in run.json; `broken` where that cannot be read, else `not started`."""
    problem: str | None = None
    """Why it failed or is broken, on one line."""
    record: dict[str, Any] = field(default_factory=dict)
    """run.json; empty where it cannot be read."""
    config: dict[str, Any] = field(default_factory=dict)
    """config.yaml as plain data; empty where it cannot be read."""
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def seed(self) -> int | None:
        seed = self.config.get("seed")
        return seed if isinstance(seed, int) else None

    @property
    def process_is_gone(self) -> bool:
        """It says that it is running, but the process that it names is not there."""
        process = process_of(Run(self.path), self.record) if self.status == "running" else None
        return process is not None and process.alive is False

    @property
    def standing(self) -> str:
        """The status in words."""
        return "running, process gone" if self.process_is_gone else self.status

    @cached_property
    def final(self) -> dict[str, Any] | None:
        """The evaluation of the best checkpoint that ended the run; None where there is none that can be read."""
        return _evaluation(Run(self.path).evaluations / "best.json")

    @cached_property
    def base(self) -> dict[str, Any] | None:
        """That of the untrained weights on the same starts."""
        return _evaluation(Run(self.path).evaluations / "base.json")

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """metrics.jsonl up to a line that breaks off; empty where it cannot be read."""
        try:
            return [row for row in read_lines(Run(self.path).metrics) if isinstance(row, dict)]
        except OSError:
            return []

    @property
    def rows_are_whole(self) -> bool:
        """Whether the rows of a run that is done reach its final evaluation, which is written last."""
        return bool(self.rows) and self.rows[-1].get("checkpoint") is not None

    @property
    def episodes_are_whole(self) -> bool:
        """Whether there are as many lines as the final evaluation says that it played episodes."""
        try:
            lines = (Run(self.path).evaluations / "best.episodes.jsonl").read_bytes().count(b"\n")
        except OSError:
            lines = 0
        return lines == (self.final or {}).get("episodes")

    @property
    def counts(self) -> bool:
        """Whether its final score may stand beside others: it is done, and its seed and final evaluation are known."""
        return self.status == "done" and self.final is not None and self.seed is not None

    @property
    def excuse(self) -> str | None:
        """Why it does not count; None where it does, or where the status says enough."""
        if self.status == "done" and not self.counts:
            return "eval/best.json or config.yaml is missing or broken"
        if self.process_is_gone:
            return "its process is gone; msgrpo train --resume goes on with it"
        return self.problem


def read_run(path: Path) -> RunData:
    """What a directory says, whatever it holds."""
    config, mistake = _config(path / "config.yaml")
    if not is_run(path):
        return RunData(path, NOT_STARTED, config=config)
    try:
        record = Run(path).record()
    except UsageError as problem:
        return RunData(path, BROKEN, _plain(str(problem), path), config=config)
    status, error = record.get("status"), record.get("error")
    overrides = record.get("overrides")
    typed = tuple(map(str, overrides)) if isinstance(overrides, list) else ()
    if not isinstance(status, str):
        return RunData(path, BROKEN, "run.json: it has no status", record, config, typed)
    if mistake is not None:
        return RunData(path, BROKEN, mistake, record, config, typed)
    said = " ".join(str(error).split()) if error else None
    return RunData(path, status, said, record, config, typed)


def finite(value: Any) -> float | None:
    """A finite number that a file holds, else None."""
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if plain and math.isfinite(value) else None


def moment(text: Any) -> datetime | None:
    """A time that run.json tells, else None."""
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else None


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones: {"env": {"size": 4}} as {"env.size": 4}."""
    keys: dict[str, Any] = {}
    for name, value in data.items():
        key = f"{prefix}{name}"
        keys |= flat(value, f"{key}.") if isinstance(value, Mapping) and value else {key: value}
    return keys


def _config(path: Path) -> tuple[dict[str, Any], str | None]:
    """config.yaml and what is wrong with it. No game is imported: a config must not run code."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except FileNotFoundError:
        return {}, "config.yaml: no such file"
    except (yaml.YAMLError, UnicodeDecodeError, ValueError):
        return {}, "config.yaml: not YAML"
    except OSError as problem:
        return {}, f"config.yaml: cannot be read ({problem.strerror})"
    return (data, None) if isinstance(data, dict) else ({}, "config.yaml: not a config")


def _evaluation(path: Path) -> dict[str, Any] | None:
    try:
        found = read_json(path)
    except UsageError:
        return None
    known = isinstance(found, dict) and finite(found.get("mean_total_reward")) is not None
    return found if known else None


def _plain(problem: str, path: Path) -> str:
    """A message without the directory, which stands beside it."""
    return " ".join(problem.replace(f"{path}/", "").split())


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Every key that is not the same in all configs, with its value in each; None where a config has no such key."""
    keys = dict.fromkeys(key for config in configs for key in config)
    table = {key: [config.get(key) for config in configs] for key in keys}
    return {key: values for key, values in table.items() if len({canonical(value) for value in values}) > 1}


def written(value: Any) -> str:
    """A value as one would type it: text and lists without quotes."""
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
