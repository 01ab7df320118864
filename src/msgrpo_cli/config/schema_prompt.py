"""The section of a config on prompts.

Knows which values are sensible. Knows nothing about Hydra, files, models or games.
"""

from __future__ import annotations

import datetime
from typing import Literal, Self

from pydantic import field_validator, model_validator

from .section import Count, Section


class ExampleTurn(Section):
    """A worked turn of one game."""

    game: str
    state: str
    action: str


class PromptConfig(Section):
    """How a state becomes a prompt."""

    name: str
    observation: Literal["compact", "full"]
    system: str | None
    user: str
    history: Count
    """How many states and actions before the current one the prompt holds; the paper's rule is 0."""
    system_role: Literal["auto", "user", "system"] = "auto"  # not in runs of before it existed
    """Where the system text goes: `auto` folds it into the first user turn where the chat template knows no system."""
    date: str | None = None  # not in runs of before it existed
    """The day (YYYY-MM-DD) that a chat template reads which prints today's; null: the day on which the run began."""
    examples: Count = 0  # not in runs of before it existed
    """How many worked turns of its game stand before the present state, the same in every prompt of the run."""
    examples_by: Literal["random", "greedy", "search", "optimal"] = "greedy"  # not in runs of before it existed
    """Which reference player says what is done there."""
    example_turns: list[ExampleTurn] | None = None  # not in runs of before it existed
    """The turns themselves; null: drawn from the train part by the run's seed where it begins, and kept with it."""
    answer_prefix: str | None = None  # not in runs of before it existed
    """What every answer begins with: it belongs to the prompt and is not trained, but is read as part of the answer."""

    @field_validator("date")
    @classmethod
    def _a_day(cls, date: str | None) -> str | None:
        if date is not None:
            try:
                datetime.date.fromisoformat(date)
            except ValueError:
                raise ValueError("must be a day as in 2026-01-31") from None
        return date

    @model_validator(mode="after")
    def _as_many_turns(self) -> Self:
        shown = [turn.game for turn in self.example_turns or []]
        if any(shown.count(game) != self.examples for game in shown):
            raise ValueError(
                f"holds {shown.count(shown[0])} of {shown[0]} in example_turns where examples={self.examples}; give "
                "as many for every game, or example_turns=null to draw them"
            )
        return self
