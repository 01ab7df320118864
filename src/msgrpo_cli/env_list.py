"""A game in one line: actions, length, and what random and best known play score.

Knows games and reference players. Knows nothing about models or files.
"""

from __future__ import annotations

from typing import Any

from msgrpo_cli.config.schema import EnvConfig
from msgrpo_cli.games.core import KnownDynamics
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.rollout.players import ExactPlayer, RandomPlayer, players_of
from msgrpo_cli.rollout.visits import played

_STARTS = 200


def described(env: EnvConfig) -> dict[str, Any]:
    """Scores are mean total rewards of evaluation over the same starts; the best is exact where it can be computed."""
    game = make_game(env, evaluation=True)
    exact = isinstance(game, KnownDynamics)
    random = played(env, RandomPlayer(), _STARTS)
    best = None
    if exact:
        player = ExactPlayer()
        values = []
        for episode in random:
            game.reset(seed=episode.start.seed)
            values.append(player.value(game) or 0.0)
        best = sum(values) / len(values)
    else:
        able = [player for name, player in players_of(game).items() if name in ("greedy", "search")]
        best = max((_mean([one.total_reward for one in played(env, player, _STARTS)]) for player in able), default=None)
    return {
        "name": env.name,
        "actions": list(game.actions),
        "max_steps": game.max_steps,
        "initial_states": game.initial_states,
        "random_score": _mean([episode.total_reward for episode in random]),
        "optimal_score": best,
        "optimal_is_exact": exact,
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
