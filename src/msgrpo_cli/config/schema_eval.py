"""The `eval` block: how often, on what, and against whom a policy is scored.

Knows keys and ranges. Knows nothing about games, files or models.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from .schema_selfplay import SERVED, Seats
from .section import Count, NonNegative, Section, Seed

SCENARIOS = {"paper": ["snake_8", "snake_20", "frozenlake", "frozenlake_slippery"]}
"""Named lists of games: `paper` holds those that the paper most likely evaluates on [authors]."""


def _named(scenarios: object) -> object:
    if scenarios == []:
        raise ValueError("names no game; null stands for the training game")
    if not isinstance(scenarios, str):
        return scenarios
    if scenarios not in SCENARIOS:
        raise ValueError(f"must be {', '.join(SCENARIOS)}, or a list of names in conf/env")
    return SCENARIOS[scenarios]


class EvalConfig(Section):
    """Evaluation."""

    every: Count
    episodes: Annotated[int, Field(ge=1, le=1_000_000)]
    temperature: NonNegative | None
    seed: Seed
    split: Literal["train", "validation", "test", "any"] | None
    scenarios: Annotated[
        list[str] | None, BeforeValidator(_named, json_schema_input_type=list[str] | Literal["paper"] | None)
    ]
    seats: Seats | None = None  # not in runs of before it existed
    """Who sits on each seat of a game of several players; they are moved on by one from start to start. Null: `self`
    against random play."""

    @property
    def asks_server(self) -> bool:
        """Whether a model of a server sits on a seat."""
        return any(who.startswith(SERVED) for who in self.seats or ())
