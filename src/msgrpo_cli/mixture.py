"""`env=mix env.games=[frozenlake,snake_8]`: from names of games to their whole `env` blocks.

Knows the `env` block of a config as plain data. Knows nothing about games, models or how a config is composed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from msgrpo_cli.errors import UsageError

MIX = "msgrpo/Mix-v0"


def expanded(env: Mapping[str, Any], block_of: Callable[[str], Mapping[str, Any]]) -> dict[str, Any]:
    """The block with every named game replaced by its own block; other blocks as they are.

    `block_of(name)` composes one game alone. Games that are blocks already, as in a saved config, stay. Raises
    UsageError for what is no list of games.
    """
    if env.get("id") != MIX:
        return dict(env)
    games = env.get("games")
    if not (isinstance(games, list) and games and all(isinstance(game, (str, Mapping)) for game in games)):
        raise UsageError(f"env.games={games}: must be a list of games, such as env.games=[frozenlake,snake_8]")
    if strange := [game for game in games if isinstance(game, str) and not re.fullmatch(r"[\w.-]+", game)]:
        raise UsageError(f"env.games={games}: '{strange[0]}' is no name in conf/env")
    blocks = [dict(block_of(game)) if isinstance(game, str) else dict(game) for game in games]
    if any(block.get("id") == MIX for block in blocks):
        raise UsageError(f"env.games={games}: a mixture cannot hold another")
    longest = max(int(block.get("max_steps", 1)) for block in blocks)
    if env.get("max_steps") not in (None, longest):
        raise UsageError(f"env.max_steps={env['max_steps']}: each game of a mixture keeps its own; leave it out")
    return {**env, "games": blocks, "max_steps": longest}


def ids_of(env: Mapping[str, Any]) -> list[str]:
    """Every `env.id` that a block names, those of its games among them."""
    inner = [game["id"] for game in env.get("games") or () if isinstance(game, Mapping) and "id" in game]
    return [str(env["id"]), *map(str, inner)]
