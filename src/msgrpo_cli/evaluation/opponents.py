"""A saved checkpoint that plays against whoever is trained or scored: inside a game, or on a seat of one.

Knows checkpoints and policies. Knows nothing about single games; they find this module by its name, and only when they
are asked to. Imports nothing heavy before a checkpoint is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.episode import Completion
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.core import Observation, TextMediatedStochasticGame, legal_moves
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.games.snake.opponents import Opponent
from msgrpo_cli.rollout.play import Decision, Policy
from msgrpo_cli.rollout.seating import REFERENCES
from msgrpo_cli.runs.checkpoint import is_checkpoint

_ALONE = "eval.seats=null"  # whom it was scored against is no matter here, and may be gone


def is_opponent(path: str) -> bool:
    """Whether a path is a checkpoint of a run."""
    return is_checkpoint(Path(path))


@dataclass(frozen=True)
class SeatedCheckpoint:
    """A checkpoint on a seat: with its own prompt and sampling it reads what that seat sees as it was trained to."""

    policy: Policy
    observation: Observation
    path: str
    actions: tuple[str, ...] | None
    """Of the game that it was trained in."""
    _told: list[str] = field(default_factory=list)

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        """One answer for each decision."""
        if decisions and not self._told and decisions[0].game.actions != self.actions:
            self._told.append(
                f"warning: {self.path}: was trained in a game with other actions than the one that is played; what it "
                "says may name none of them"
            )
            print(self._told[0], file=sys.stderr)
        return self.policy.act([replace(one, observation=one.game.describe(self.observation)) for one in decisions])


@lru_cache(maxsize=8)
def seated_player(name: str) -> Policy:
    """Who sits on a seat by this name: a reference player, or the checkpoint at this path.

    Loads the weights of a checkpoint; raises UsageError where it cannot play.
    """
    if name in REFERENCES:
        return REFERENCES[name]()
    policy, config = _loaded(name)
    return SeatedCheckpoint(policy, config.prompt.observation, name, make_game(config.env).actions)


@lru_cache(maxsize=2)
def checkpoint_opponent(path: str) -> Opponent:
    """The checkpoint with its own prompt and sampling; an invalid answer plays the first legal move.

    Loads the weights.
    """
    policy, config = _loaded(path)
    observation = config.prompt.observation

    def choose(game: TextMediatedStochasticGame, rng: np.random.Generator) -> str:
        key = ("opponent", int(rng.integers(2**62)))
        [completion] = policy.act([Decision(game, game.describe(observation), key)])
        moves = legal_moves(game, "an opponent")
        return completion.action if completion.action in moves else moves[0]

    return choose


def _loaded(path: str) -> tuple[Policy, RunConfig]:
    from msgrpo_cli.config import hydra_app
    from msgrpo_cli.models.factory import load_policy
    from msgrpo_cli.models.loading import quiet_libraries

    from .targets import asked_for

    quiet_libraries()
    with hydra_app.apart_from_the_callers():
        [(_, config)] = asked_for(path, [_ALONE], allow_modules=list(sys.modules))  # what is there runs no more
    if config.prompt.history:
        raise UsageError(f"{path}: plays with prompt.history={config.prompt.history}; an opponent sees no history")
    return load_policy(config, config.model, merge=True), config
