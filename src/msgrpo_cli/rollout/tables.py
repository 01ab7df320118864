"""How a game of several players is played to be looked at: at random, by reference players, and back to where it stood.

Knows games, seats and reference players. Knows nothing about what is looked for, models or files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from msgrpo_cli.common.numbers import counted
from msgrpo_cli.common.seeding import Key, generator
from msgrpo_cli.episode import Episode, Start, pairs
from msgrpo_cli.games.core import legal_moves
from msgrpo_cli.games.registry import GameSpec, make_game
from msgrpo_cli.games.seats import MultiPlayerGame

from .play import PlayRules, Policy, play_episodes
from .players import RandomPlayer
from .seating import SeatedPolicy, Seating, against_random
from .visits import MEMBERS, SEEDS

_WHO = "a look at its play"
_STARTS = 10 * SEEDS
_EPISODES = 200
Turn = Mapping[int, str]


@dataclass(frozen=True)
class Place:
    """A state that was visited, and how to come there again."""

    seed: int
    noise: Key
    turns: tuple[Turn, ...]

    def __str__(self) -> str:
        return f"(seed {self.seed} after {counted(len(self.turns), 'turn')})"


def made(env: GameSpec, evaluation: bool = False) -> MultiPlayerGame:
    """The game of several players that a block names."""
    game = make_game(env, evaluation)
    assert isinstance(game, MultiPlayerGame)
    return game


def drawn_turn(game: MultiPlayerGame, rng: np.random.Generator) -> Turn:
    """A legal move at random for every seat that is to move."""
    turn = {}
    for seat in game.movers():
        moves = legal_moves(game.seen_by(seat), _WHO)
        turn[seat] = moves[int(rng.integers(len(moves)))]
    return turn


def places(env: GameSpec) -> Iterator[tuple[Place, MultiPlayerGame]]:
    """States of random play, with the game standing there; after them further starts alone."""
    game = made(env)
    for seed in range(SEEDS):
        for member in range(MEMBERS):
            place = Place(seed, ("check", seed, member), ())
            rng = generator((*place.noise, "actions"))
            bring(game, place)
            ended_by = None
            while ended_by is None and len(place.turns) < game.max_steps:
                yield place, game
                turn = drawn_turn(game, rng)
                *_, ended_by = game.take_turn(turn)
                place = Place(seed, place.noise, (*place.turns, turn))
    for seed in range(SEEDS, _STARTS):
        place = Place(seed, ("check", seed), ())
        bring(game, place)
        yield place, game


def bring(game: MultiPlayerGame, place: Place) -> None:
    """Bring a game where the place is."""
    game.reset(seed=place.seed)
    game.np_random = generator(place.noise)
    for turn in place.turns:
        game.take_turn(turn)


def trace_of_turns(game: MultiPlayerGame, seeds: range) -> str:
    """A digest of what every seat sees and gets in some episodes."""
    digest = hashlib.sha256()
    for seed in seeds:
        rng, ended_by = generator(("trace", seed)), None
        bring(game, Place(seed, ("trace", seed, "noise"), ()))
        while ended_by is None and game.elapsed < game.max_steps:
            seen = [game.seen_by(seat).describe() for seat in range(game.players)]
            digest.update(repr((seen, game.state_key())).encode())
            rewards, _, _, ended_by = game.take_turn(drawn_turn(game, rng))
            digest.update(repr((rewards, ended_by)).encode())
    return digest.hexdigest()


def against_random_play(env: GameSpec, player: Policy, episodes: int = _EPISODES) -> list[Episode]:
    """Pairs of a player that sits on each seat in turn, against random play, with the rewards of evaluation."""
    seating = Seating(against_random(make_game(env).players))
    starts = [Start(seed, seed, 0, ("reference", seed), seating.of(seed, ())) for seed in range(episodes)]
    policy = SeatedPolicy(player, lambda name: RandomPlayer())
    return pairs(play_episodes(starts, lambda: make_game(env, evaluation=True), policy, PlayRules(env.name)))
