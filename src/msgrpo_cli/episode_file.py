"""A file of episodes, read one at a time and found again by place: it may be larger than memory.

Knows lines of episodes.jsonl and their offsets. Knows nothing about run directories, or which episodes are wanted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgrpo_cli.common.files import refuse_newer
from msgrpo_cli.episode_log import SCHEMA
from msgrpo_cli.errors import UsageError

Row = dict[str, Any]

_OF_EPISODE = (
    "update", "split", "env", "seed", "group", "member", "total_reward", "success", "ended_by", "advantage", "drawn",
    "steps",
)  # fmt: skip
_OF_STEP = ("t", "observation", "completion", "action", "valid", "reward", "optimal_action", "regret")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an episode lies."""

    number: int
    """Of its line, from 1."""
    offset: int
    """Of its first byte."""


@dataclass
class EpisodeFile:
    """The episodes of one file. While a run goes on its last line may be half written; then it does not count."""

    path: Path
    complaint: str | None = field(default=None, init=False)
    """After `scan`: what was met before the end of the file."""

    def scan(self) -> Iterator[tuple[Place, Row]]:
        """Every episode in order. Raises UsageError where there is no file, or a line that is no episode."""
        offset = 0
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    try:
                        row = json.loads(line)
                    except ValueError:
                        if line.endswith(b"\n"):
                            self.complaint = f"{self.path}: line {number} is damaged; what follows it is left out"
                        return
                    yield Place(number, offset), self._checked(row, number)
                    offset += len(line)
        except FileNotFoundError:
            raise UsageError(f"{self.path}: no such file") from None

    def at(self, place: Place) -> Row:
        """The episode at a place. Raises UsageError where it is no longer there."""
        try:
            with self.path.open("rb") as file:
                file.seek(place.offset)
                return self._checked(json.loads(file.readline()), place.number)
        except (OSError, ValueError):
            raise UsageError(f"{self.path}: line {place.number} is no longer there; replay once more") from None

    def _checked(self, row: Any, number: int) -> Row:
        if not isinstance(row, dict):
            raise UsageError(f"{self.path}: line {number} is no episode")
        refuse_newer(self.path, row.get("schema", 0), SCHEMA)
        missing = [name for name in _OF_EPISODE if name not in row]
        steps = row.get("steps")
        if not missing and isinstance(steps, list):
            missing = [f"steps.{name}" for step in steps for name in _OF_STEP if name not in step]
        if missing or not isinstance(steps, list) or not steps:
            raise UsageError(f"{self.path}: line {number} is no episode: it has no {(missing or ['steps'])[0]}")
        return row
