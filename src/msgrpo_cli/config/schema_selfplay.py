"""The `selfplay` block: who sits where in training a game of several players, and the pool of earlier checkpoints.

Knows keys and ranges. Knows nothing about games, files or models: whether seats fit a game is said by `seats`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .section import Positive, Section

NAMED_SEATS = ("self", "random", "greedy", "search", "pool")
"""Whoever else sits somewhere is a checkpoint, by its path, or a model of a server."""
SERVED = "api:"
"""Before the name that the server of the `api` section has for a model."""
Seats = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
"""Who sits on each seat: one of `NAMED_SEATS`, the path of a checkpoint, or `api:` and the name of a model."""


class SelfPlayConfig(Section):
    """Games of several players."""

    seats: Seats | None = None
    """Null: `self` everywhere."""
    rotate: bool = True
    """Whether the seats are moved on by one from group to group."""
    every: Positive = 10
    """Updates between two checkpoints that join the pool; the weights at update 0 are its first."""
    pool: Positive = 3
    """How many of them are kept, the latest."""
    choose: Literal["uniform", "score"] = "uniform"
    """How one of the pool is drawn for a seat of a group: each alike, or by rank of its score on validation."""

    @property
    def pooled(self) -> bool:
        """Whether earlier checkpoints play."""
        return "pool" in (self.seats or ())

    @property
    def models(self) -> int:
        """How many further models play in training at most: all of the pool, and the checkpoints that are named."""
        return self.pool * self.pooled + len({*(self.seats or ())} - {*NAMED_SEATS})
