"""A saved checkpoint that plays an opponent inside a game.

Knows checkpoints and policies. Knows nothing about single games; they find this module by its name, and only when they
are asked to. Imports nothing heavy before a checkpoint is loaded.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.core import TextMediatedStochasticGame, legal_moves
from msgrpo_cli.games.snake.opponents import Opponent
from msgrpo_cli.runs.checkpoint import is_checkpoint


def is_opponent(path: str) -> bool:
    """Whether a path is a checkpoint of a run."""
    return is_checkpoint(Path(path))


@lru_cache(maxsize=2)
def checkpoint_opponent(path: str) -> Opponent:
    """The checkpoint with its own prompt and sampling; an invalid answer plays the first legal move.

    Loads the weights.
    """
    from msgrpo_cli.config import hydra_app
    from msgrpo_cli.models.factory import load_policy
    from msgrpo_cli.models.loading import quiet_libraries
    from msgrpo_cli.rollout.play import Decision

    from .targets import asked_for

    quiet_libraries()
    with hydra_app.apart_from_the_callers():
        [(_, config)] = asked_for(path, [])
    if config.prompt.history:
        raise UsageError(f"{path}: plays with prompt.history={config.prompt.history}; an opponent sees no history")
    policy = load_policy(config, config.model, merge=True)
    observation = config.prompt.observation

    def choose(game: TextMediatedStochasticGame, rng: np.random.Generator) -> str:
        key = ("opponent", int(rng.integers(2**62)))
        [completion] = policy.act([Decision(game, game.describe(observation), key)])
        moves = legal_moves(game, "an opponent")
        return completion.action if completion.action in moves else moves[0]

    return choose
