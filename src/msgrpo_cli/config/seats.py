"""Whether the seats that a config names fit its game, and what games of several players cannot be combined with.

Knows config sections and games. Knows nothing about models; of a checkpoint no more than that it is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgrpo_cli.common.numbers import counted
from msgrpo_cli.episode import SELF
from msgrpo_cli.errors import UsageError, shown
from msgrpo_cli.games.core import TextMediatedStochasticGame
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.games.seats import MultiPlayerGame
from msgrpo_cli.rollout.players import players_of
from msgrpo_cli.rollout.seating import POOL, REFERENCES

from .schema import RunConfig, stages
from .schema_selfplay import NAMED_SEATS, SERVED

_POOL_ENGINES = ("single", "continuous_batching")


def seat_problems(config: RunConfig) -> list[str]:
    """One line for every key that does not fit the number of the game's players."""
    games = [make_game(env) for env in stages(config.env, config.curriculum)]
    several = [game for game in games if game.players > 1]
    if not several:
        return _of_one_player(config)
    lines = [
        line
        for game in games
        for key, seats in (("selfplay.seats", config.selfplay.seats), ("eval.seats", config.eval.seats))
        if seats is not None
        for line in _unfit(key, seats, game, config)
    ]
    return list(dict.fromkeys([*lines, *_pool_problems(config), *_not_with_several(config, several[0].players)]))


def refuse_several(config: RunConfig, command: str) -> None:
    """Raise UsageError where a command that plays games of one player is given one of several."""
    if (players := make_game(config.env).players) > 1:
        raise UsageError(
            f"env={config.env.name}: has {players} players, and {command} looks at games of one; take another game"
        )


def seats_counted(config: RunConfig) -> tuple[int, int, int]:
    """How many seats the game has, on how many of them `self` sits in training, and how many decide in the first turn
    (one where they move in turn)."""
    game = make_game(config.env)
    players, seats, at_once = game.players, config.selfplay.seats, 1
    if isinstance(game, MultiPlayerGame):
        game.reset(seed=0)
        at_once = len(game.movers())
    return players, players if seats is None else seats.count(SELF), at_once


def _of_one_player(config: RunConfig) -> list[str]:
    given = {"selfplay.seats": config.selfplay.seats, "eval.seats": config.eval.seats}
    return [
        f"{shown(f'{key}={_typed(seats)}')}: {config.env.name} has one player, so there are no seats; leave it out"
        for key, seats in given.items()
        if seats is not None
    ]


def _typed(seats: Sequence[str]) -> str:
    return f"[{','.join(seats)}]"


def _unfit(key: str, seats: Sequence[str], game: TextMediatedStochasticGame, config: RunConfig) -> list[str]:
    said = shown(f"{key}={_typed(seats)}")
    example = f"{key}={_typed([SELF, *['random'] * (game.players - 1)])}"
    if len(seats) != game.players:
        given = counted(len(seats), "seat")
        return [f"{said}: {given}, and {config.env.name} has {game.players} players; such as {example}"]
    lines = []
    if SELF not in seats:
        lines.append(f"{said}: self sits nowhere, so nobody is trained or scored; such as {example}")
    if POOL in seats and key == "eval.seats":
        lines.append(f"{said}: the pool changes in the course of a run; name a checkpoint of it by its path")
    able = [SELF, *players_of(game)]
    for who in dict.fromkeys(seats):
        if who in REFERENCES and who not in able:
            lines.append(f"{said}: {config.env.name} has no player {who}; take {', '.join(able)} or a checkpoint")
        elif who.startswith(SERVED):
            lines += _of_server(said, who, key, config)
        elif who not in NAMED_SEATS and not (Path(who).expanduser() / "msgrpo.json").is_file():
            lines.append(f"{said}: {_no_checkpoint(who)}")
    return lines


def _no_checkpoint(who: str) -> str:
    if own := sorted(Path(who).expanduser().glob("checkpoints/*/msgrpo.json"), key=lambda path: path.stat().st_mtime):
        return f"{who} is a run, and a seat is played by one of its checkpoints; give {own[-1].parent}"
    return (
        f"{who} is no checkpoint, and none of {', '.join(NAMED_SEATS)}; give the path of a checkpoint, "
        "such as RUN/checkpoints/checkpoint-10"
    )


def _of_server(said: str, who: str, key: str, config: RunConfig) -> list[str]:
    if who == SERVED:
        return [f"{said}: names no model of the server; such as {SERVED}gpt-4o-mini"]
    if key == "eval.seats" and config.api is not None:
        return []
    return [
        f"{said}: training asks no server, whose answers cost and cannot be played again; give {who} to msgrpo eval, "
        "msgrpo play or msgrpo lab crossplay"
    ]


def _pool_problems(config: RunConfig) -> list[str]:
    """What a pool of earlier checkpoints needs."""
    selfplay, lines = config.selfplay, []
    if not selfplay.pooled:
        return []
    if config.engine.name not in _POOL_ENGINES:
        lines.append(
            f"engine={config.engine.name}: plays with one set of weights, and the pool of selfplay.seats="
            f"{_typed(selfplay.seats or [])} has others; take engine={' or '.join(_POOL_ENGINES)}"
        )
    every = config.eval.every
    if selfplay.choose == "score" and (not every or selfplay.every % every):
        lines.append(
            f"selfplay.choose=score: the checkpoints of the pool must be scored on validation, but eval.every={every} "
            f"does not divide selfplay.every={selfplay.every}; let it, or give selfplay.choose=uniform"
        )
    return lines


def _not_with_several(config: RunConfig, players: int) -> list[str]:
    """What works for games of one player alone, as yet."""
    game, lines = f"{config.env.name} has {players} players", []
    if config.prompt.examples or config.prompt.example_turns:
        lines.append(f"prompt.examples={config.prompt.examples}: {game}, which has no worked turns; leave it at 0")
    return lines
