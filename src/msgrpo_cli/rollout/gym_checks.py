"""What `msgrpo env check` asks of a game as an environment of gymnasium.

Knows gymnasium's own checks, and games around its environments. Knows nothing about texts, models or files.
"""

from __future__ import annotations

import warnings

from gymnasium.utils.env_checker import check_env
from gymnasium.utils.seeding import np_random

from msgrpo_cli.common.seeding import generator
from msgrpo_cli.games.gym import GymGame, as_plain
from msgrpo_cli.games.registry import GameSpec, make_game

from .legal_checks import played_legally
from .visits import Fault, drawn

_SEEDS = range(6)


def gymnasium_agrees(env: GameSpec) -> str:
    """Gymnasium's own checks, and of its environments a plain loop beside the game."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(played_legally(make_game(env)), skip_render_check=True)
    passed = "gymnasium's own checks pass, its warnings counted as errors"
    if not isinstance(game := make_game(env), GymGame):
        return passed
    for seed in _SEEDS:
        _as_registered(game, seed)
    return f"{passed}; rewards, observations and ends are those of a plain loop over {game.inner_id}"


def _as_registered(game: GymGame, seed: int) -> None:
    """One episode beside a plain loop of gymnasium's over the same environment, with the same chance."""
    plain, rng = game.registered(), generator(("plain", seed))
    game.reset(seed=seed)
    plain.reset(seed=int(np_random(seed)[0].integers(2**31)))
    game.np_random, plain.unwrapped.np_random = (generator(("plain", seed, "noise")) for _ in range(2))
    for step in range(game.max_steps):
        action = game.actions.index(drawn(game, rng))
        _, reward, terminated, _, _ = game.step(action)
        observation, expected, ended, cut, _ = plain.step(int(plain.action_space.start) + action)
        over = bool(ended or (cut and step + 1 < game.max_steps))  # at max_steps either may cut
        ours, theirs = (reward, terminated, game.seen), (float(expected), over, as_plain(observation))
        if repr(ours) != repr(theirs):
            raise Fault(
                f"at step {step + 1} of seed {seed} {game.inner_id} by itself gives {theirs!r}, the game {ours!r}"
            )
        if terminated:
            break
    plain.close()
