"""A key of the game that grows harder as the game is learnt, told from a run's metrics alone.

Knows rows of metrics.jsonl and `env` blocks. Knows nothing about games, models or how training plays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgrpo_cli.config.schema import CurriculumConfig


@dataclass
class Curriculum:
    """Follows a run's rows; `stage` is the one that the next update plays."""

    config: CurriculumConfig
    stage: int = 0
    _successes: list[float] = field(default_factory=list)
    """Of the last updates of this stage."""

    @classmethod
    def of(cls, config: CurriculumConfig, rows: Iterable[Mapping[str, Any]] = ()) -> Curriculum:
        """As after these rows of metrics.jsonl, so that a resumed run stands where an uninterrupted one would."""
        curriculum = cls(config)
        for row in rows:
            if row["kind"] == "train":
                curriculum.after_update(row)
        return curriculum

    @property
    def values(self) -> Sequence[Any]:
        return self.config.values or ()

    @property
    def value(self) -> Any:
        """Of the key in the present stage; None without a curriculum."""
        return self.values[self.stage] if self.values else None

    def after_update(self, row: Mapping[str, Any]) -> str | None:
        """A sentence where the next stage begins: the mean success of `window` updates has reached the threshold."""
        if self.stage + 1 >= len(self.values) or row["success_rate"] is None:
            return None
        self._successes = [*self._successes, float(row["success_rate"])][-self.config.window :]
        mean = sum(self._successes) / len(self._successes)
        if len(self._successes) < self.config.window or mean < self.config.success:
            return None
        self.stage += 1
        self._successes = []
        reached = f"success {100 * mean:.1f} % over {self.config.window} updates"
        return f"{self.config.key}={self.value} from the next update on: {reached}"
