"""Episodes of a game played at random, as one digest: what `msgrpo env check` compares between processes.

Knows games and how to play them. `python -m msgrpo_cli.env_trace` reads an `env` block as JSON and prints the digest.
"""

from __future__ import annotations

import hashlib
import sys

from msgrpo_cli.common.seeding import generator
from msgrpo_cli.games.core import TextMediatedStochasticGame
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.schema import EnvConfig

_SEEDS = range(6)


def trace(game: TextMediatedStochasticGame) -> str:
    """A digest of every text, reward and state of some episodes."""
    digest = hashlib.sha256()
    for seed in _SEEDS:
        rng = generator(("trace", seed))
        game.reset(seed=seed)
        game.np_random = generator(("trace", seed, "noise"))
        for _ in range(game.max_steps):
            text, reward, terminated, truncated, _info = game.step(int(rng.integers(len(game.actions))))
            digest.update(repr((text, reward, terminated, truncated, game.state_key())).encode())
            if terminated or truncated:
                break
    return digest.hexdigest()


if __name__ == "__main__":
    print(trace(make_game(EnvConfig.model_validate_json(sys.stdin.read()))))
