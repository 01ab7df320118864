"""How a game is played to be looked at: at random, by reference players, and back to a state that was visited; and the
words for what is then seen, and for a promise that is seen to be broken.

Knows games and reference players. Knows nothing about what is looked for, models or files.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from msgrpo_cli.common.seeding import Key, generator
from msgrpo_cli.common.statistics import mean_interval
from msgrpo_cli.episode import Episode, Start
from msgrpo_cli.games.core import Observation, TextMediatedStochasticGame, legal_moves
from msgrpo_cli.games.registry import GameSpec, make_game

from .play import PlayRules, Policy, play_episodes

Game = TextMediatedStochasticGame
SEEDS, MEMBERS = 24, 6
_EPISODES = 200
OBSERVATIONS: tuple[Observation, ...] = ("full", "compact")
Outcome = tuple[str, float, bool, bool, dict[str, Any]]
"""Text, reward, terminated, truncated, info."""


class Fault(Exception):
    """A promise that a game breaks, in words."""


@dataclass(frozen=True)
class Visit:
    """A state that was visited, and how to come there again."""

    seed: int
    noise: Key
    actions: tuple[str, ...]


def drawn(game: Game, rng: np.random.Generator) -> str:
    """A legal move at random."""
    moves = legal_moves(game, "a look at its play")
    return moves[int(rng.integers(len(moves)))]


def visits(env: GameSpec) -> Iterator[tuple[Visit, Game]]:
    """States of random play, with the game standing there; every seed is played by several members."""
    game = make_game(env)
    for seed in range(SEEDS):
        for member in range(MEMBERS):
            noise = ("check", seed, member)
            rng = generator((*noise, "actions"))
            game.reset(seed=seed)
            game.np_random = generator(noise)
            actions: tuple[str, ...] = ()
            yield Visit(seed, noise, actions), game
            for _ in range(game.max_steps):
                actions = (*actions, drawn(game, rng))
                *_, terminated, truncated, _info = game.take(actions[-1])
                if terminated or truncated:
                    break
                yield Visit(seed, noise, actions), game


def steps_of(game: Game, seed: int) -> Iterator[tuple[str, str, Outcome]]:
    """An episode of random play: the text before, the action, and what `step` returned; `max_steps` at most."""
    rng = generator(("steps", seed))
    game.reset(seed=seed)
    game.np_random = generator(("steps", seed, "noise"))
    for _ in range(game.max_steps):
        action, before = drawn(game, rng), game.describe()
        outcome = game.take(action)
        yield before, action, outcome
        if outcome[2] or outcome[3]:
            break


def again(game: Game, visit: Visit) -> None:
    """Bring a game where the visit was."""
    game.reset(seed=visit.seed)
    game.np_random = generator(visit.noise)
    for action in visit.actions:
        game.take(action)


def played(
    env: GameSpec, player: Policy, episodes: int = _EPISODES, observation: Observation = "full"
) -> Sequence[Episode]:
    """The same starts for every player, with the rewards of evaluation."""
    starts = [Start(seed, seed, 0, ("reference", seed)) for seed in range(episodes)]
    return play_episodes(starts, lambda: make_game(env, evaluation=True), player, PlayRules(env.name, observation))


def ends_told(ends: Counter[str]) -> str:
    """How the episodes of all seeds ended."""
    return f"all of {SEEDS} episodes: " + ", ".join(f"{why} {count}" for why, count in sorted(ends.items()))


def mean_told(rewards: Sequence[float]) -> str:
    """Their mean, with its 95 % interval where there are several."""
    interval = mean_interval(rewards) if len(rewards) > 1 else None
    return f"{sum(rewards) / len(rewards):.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def speed_of(play: Callable[[], Sequence[Episode]]) -> float:
    """Decisions a second."""
    began = time.perf_counter()
    steps = sum(len(episode.steps) for episode in play())
    return steps / (time.perf_counter() - began)
