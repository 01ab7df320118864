"""`msgrpo lab crossplay`: everybody against everybody in a game of two players, both ways round, and ratings.

Knows games of two players, who sits on a seat by its name, and scores. Knows nothing about training, the command line
or how figures are shown. All pairs play the same starts; what else is drawn is drawn anew for each pair and way round.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from msgrpo_cli.common.console import end_progress, tally
from msgrpo_cli.common.ratings import Result, ratings
from msgrpo_cli.common.statistics import Interval, mean_interval
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.config.schema_selfplay import SERVED
from msgrpo_cli.episode import Episode, Start
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.seats import MultiPlayerGame
from msgrpo_cli.models.factory import game_factory, play_rules
from msgrpo_cli.models.surroundings import neutral_surroundings
from msgrpo_cli.rollout.play import play_episodes
from msgrpo_cli.rollout.players import RandomPlayer, players_of
from msgrpo_cli.rollout.seating import REFERENCES, SeatedPolicy
from msgrpo_cli.runs.checkpoint import find_checkpoint

from .evaluator import Evaluator
from .servers import asking
from .targets import asked_for

_SAME = 1e-9  # total rewards that are this close are a draw
_SEATS = 2


@dataclass(frozen=True)
class Contest:
    """Who plays, in which game."""

    players: tuple[str, ...]
    """As they were named."""
    seated: Mapping[str, str]
    """Of each, the name by which it sits on a seat."""
    config: RunConfig


def contest(
    players: Sequence[str],
    overrides: Sequence[str],
    *,
    config_dirs: Sequence[Path] = (),
    allow_modules: Sequence[str] = (),
) -> Contest:
    """Of reference players, runs or checkpoints, and models of a server; the game: `env`, else the first checkpoint's.

    Raises UsageError for what cannot play. Loads no weights.
    """
    if len(set(players)) < _SEATS or len(set(players)) < len(players):
        raise UsageError(
            f"players {', '.join(players) or 'none'}: give two or more different ones, such as "
            "msgrpo lab crossplay RUN random greedy"
        )
    for text in overrides:
        if text.lstrip("+~").startswith(("eval.seats", "eval.scenarios", "policy=")):
            raise UsageError(f"{text}: who plays is named, both ways round, in one game; leave it out")
    seated = {name: _seat_of(name) for name in players}
    if len(set(seated.values())) < len(players):
        raise UsageError(f"players {', '.join(players)}: two of them are one checkpoint; leave one out")
    target = next((who for who in seated.values() if who not in REFERENCES and not who.startswith(SERVED)), None)
    served = next((who for who in players if who.startswith(SERVED)), None)
    chosen = ["eval.seats=null", "policy=random"]
    if served is not None:
        from msgrpo_cli.config.hydra_app import quoted

        chosen = [f"eval.seats=[self,{quoted(served)}]"]
    [(_, config)] = asked_for(
        target, [*overrides, *chosen], config_dirs=config_dirs, allow_modules=allow_modules, reach=False
    )
    _check(players, config)
    return Contest(tuple(players), seated, config)


def _seat_of(name: str) -> str:
    if name in REFERENCES or name.startswith(SERVED):
        return name
    return str(find_checkpoint(name)[0].absolute())


def _check(players: Sequence[str], config: RunConfig) -> None:
    game = game_factory(config.env, evaluation=True)()
    if not isinstance(game, MultiPlayerGame) or game.players != _SEATS:
        has = "1 player" if game.players == 1 else f"{game.players} players"
        raise UsageError(f"env={config.env.name}: has {has} as it is configured; crossplay is of two")
    able = players_of(game)
    for name in players:
        if name in REFERENCES and name not in able:
            raise UsageError(f"{name}: {config.env.name} has no such player; it has {', '.join(able)}")


def measure_crossplay(asked: Contest) -> dict[str, Any]:
    """Mean total rewards of every pair on both seats with intervals of 95 %, and ratings; `of_games` holds every game.

    Raises UsageError where a checkpoint cannot play.
    """
    config = asked.config
    make_game, rules = game_factory(config.env, evaluation=True), play_rules(config, evaluation=True)
    evaluator = Evaluator(
        make_game, rules, split=config.eval.split or "test", seed=config.eval.seed, episodes=config.eval.episodes
    )
    game, seated, told = make_game(), asked.seated, tally("crossplay", "episodes, of")
    assert isinstance(game, MultiPlayerGame)
    games: list[dict[str, Any]] = []
    valid: dict[str, list[bool]] = {name: [] for name in asked.players}
    ways = [way for pair in combinations(asked.players, _SEATS) for way in (pair, pair[::-1])]
    with asking(config) as servers, neutral_surroundings(lambda line: print(line, file=sys.stderr)):
        policy = SeatedPolicy(RandomPlayer(), servers.player)  # nobody sits as `self`
        try:
            for number, way in enumerate(ways):
                starts = list(_seated(evaluator.starts, way, seated))
                played = play_episodes(starts, make_game, policy, rules)
                told((number + 1) * len(starts), len(ways) * len(starts))
                games += [_game(way, episode) for episode in played]
                for step in (step for episode in played for step in episode.steps):
                    valid[way[step.seat or 0]].append(step.valid)
        finally:
            end_progress()
    rated = _rated(games, config.eval.seed) if game.utility != "common" else None
    return {
        "env": config.env.name,
        "split": evaluator.split,
        "utility": game.utility,
        "episodes": len(evaluator.starts),
        "seeds": [evaluator.starts[0].seed, evaluator.starts[-1].seed],
        "players": [
            {
                "player": name,
                "seated": seated[name],
                "valid_action_rate": float(np.mean(valid[name])) if valid[name] else None,
            }
            for name in asked.players
        ],
        "pairs": [_pair(pair, games) for pair in combinations(asked.players, _SEATS)],
        "ratings": rated,
        "of_games": games,
    }


def _seated(starts: Sequence[Start], way: tuple[str, ...], seated: Mapping[str, str]) -> Iterator[Start]:
    for start in starts:
        yield replace(start, key=(*start.key, "crossplay", *way), seats=tuple(seated[name] for name in way))


def _game(way: tuple[str, ...], episode: Episode) -> dict[str, Any]:
    return {
        "seats": list(way),
        "seed": episode.start.seed,
        "total_rewards": [had.total_reward for had in episode.seats],
        "ended_by": episode.ended_by,
    }


def _pair(pair: tuple[str, ...], games: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of both ways round, and of each. The two games of one start are one draw of its interval."""
    first, second = pair
    there = [[game["total_rewards"] for game in games if game["seats"] == list(way)] for way in (pair, pair[::-1])]
    # shape (ways, starts, players of the pair)
    reward_WSP = np.array([there[0], [rewards[::-1] for rewards in there[1]]], dtype=np.float64)
    apart = reward_WSP[:, :, 0] - reward_WSP[:, :, 1]
    return {
        "first": first,
        "second": second,
        "mean_total_reward": {name: _mean(reward_WSP[:, :, place].mean(0)) for place, name in enumerate(pair)},
        "by_seat": {
            name: [_mean(reward_WSP[seat if place == 0 else 1 - seat, :, place]) for seat in range(_SEATS)]
            for place, name in enumerate(pair)
        },
        "wins": int((apart > _SAME).sum()),
        "draws": int((np.abs(apart) <= _SAME).sum()),
        "losses": int((apart < -_SAME).sum()),
    }


def _mean(rewards: np.ndarray) -> dict[str, Any]:
    found: Interval | None = mean_interval(rewards.tolist())
    return {"mean": float(rewards.mean()), "ci95": found}


def _rated(games: Sequence[Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """By who got more, the size of it apart."""
    results = []
    for game in games:
        apart = game["total_rewards"][0] - game["total_rewards"][1]
        won, lost = int(apart > _SAME), int(apart < -_SAME)
        first, second = game["seats"]
        results.append(Result(first, second, wins=won, losses=lost, draws=1 - won - lost))
    return [asdict(one) for one in ratings(results, key=("crossplay", seed))]
