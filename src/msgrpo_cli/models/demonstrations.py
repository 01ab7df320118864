"""What the embedded bases imitate: players that err systematically, seen in states of the train part of every game.

Knows games, how each is played badly, and how much of each is shown. Knows nothing about tokens, models or MS-GRPO.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from msgrpo_cli.common.seeding import generator, seed_from
from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.core import TextMediatedStochasticGame, legal_moves
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.games.gym import TabularGymGame
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.games.seats import MultiPlayerGame
from msgrpo_cli.games.snake.game import Snake
from msgrpo_cli.games.snake.players import greedy_moves
from msgrpo_cli.rollout.split import split_of

Player = Callable[[Any], np.ndarray]
"""Action probabilities, shape (number of actions,), in the present state of a game."""
Demonstration = tuple[str, np.ndarray]
"""(compact text, the player's action probabilities)."""

SHARES: Mapping[str, float] = {
    "frozenlake": 0.25,
    "frozenlake_slippery": 0.06,
    "snake_20": 0.46,
    "cliffwalking": 0.05,
    "taxi": 0.03,
    "blackjack": 0.03,
    "sokoban": 0.03,
    "minesweeper": 0.03,
    "guess_number": 0.03,
    "guess_number_forgetful": 0.03,
}
"""Of all states that a base sees. The named variations, which are never trained on, are not among them."""
_SKILLED_SHARE = 0.5
_STRAY_SHARE = 0.5
_COLUMNS = 12  # of gymnasium's cliff


def uniform_player(game: TextMediatedStochasticGame) -> np.ndarray:
    """One that knows only the names of the legal moves."""
    moves = legal_moves(game, "a demonstration")
    return np.array([(action in moves) / len(moves) for action in _actions(game)])


def frozenlake_player(game: FrozenLake) -> np.ndarray:
    """Mostly right (down at the right edge) whatever lies there, at times along a shortest safe path.

    It wins 0.42 of the generator's 4x4 lakes within 8 steps (exact, over 1500 seeds).
    """
    at_right_edge = game.cell % game.size == game.size - 1
    return mixed(game, "down" if at_right_edge else "right", 0.6, game.shortest_moves() or game.actions, 0.25)


def snake_player(game: Snake) -> np.ndarray:
    """Mostly right (up at the right edge, into the wall at the top) whatever lies there, at times to the next apple.

    In 20 steps it eats 1.0 apples and scores -1.6; uniform play 0.3 and -2.2, the heuristic 4.8 and 4.7 (600 starts).
    """
    at_right_edge = game.bodies[0][0][0] == game.size - 1
    return mixed(game, "up" if at_right_edge else "right", 0.5, greedy_moves(game), 0.35)


def cliff_player(game: TabularGymGame) -> np.ndarray:
    """Mostly along the edge of the cliff and down into it two columns too early, at times the right way."""
    _, _, number = game.state()
    row, column = divmod(number, _COLUMNS)
    way = "up" if row > 2 else "right"
    good = "down" if column == _COLUMNS - 1 else way
    return mixed(game, "down" if row <= 2 and column >= _COLUMNS - 3 else way, 0.5, [good], 0.35)


def mixed(
    game: TextMediatedStochasticGame, habit: str, habit_share: float, good: Sequence[str], good_share: float
) -> np.ndarray:
    """A fixed habit, or a good move, for the rest any that is legal: a lower temperature is no cure."""
    actions, legal = _actions(game), legal_moves(game, "a demonstration")
    probabilities = np.array([(action in legal) * (1.0 - habit_share - good_share) / len(legal) for action in actions])
    probabilities[actions.index(habit)] += habit_share
    for move in good:
        probabilities[actions.index(move)] += good_share / len(good)
    return probabilities


def _actions(game: TextMediatedStochasticGame) -> tuple[str, ...]:
    if game.actions is None:
        raise UsageError(f"{type(game).__name__} takes free text: a base imitates choices among a list of actions")
    return game.actions


BLUNDERING: Mapping[str, Player] = {
    "frozenlake": frozenlake_player,
    "frozenlake_slippery": frozenlake_player,
    "snake_20": snake_player,
    "cliffwalking": cliff_player,
}
"""By game; of all other games `tiny` knows the format alone."""


def game_of(name: str) -> TextMediatedStochasticGame:
    """By its name in `conf/env`, with keys of it behind the name where others than its own are wanted."""
    return make_game(compose("train", f"env={name}".split()).env)


def demonstrations(name: str, player: Player, seed: int) -> Iterator[Demonstration]:
    """Endless states of one game, as `game_of` names it, all from starts of the train part."""
    game = game_of(name)
    rng = generator(("imitation", name, seed))
    seeds = (seed_from(("imitation", seed, index)) for index in count())
    for start in seeds:
        game.reset(seed=start)
        if game.initial_states != "few" and split_of(game.state_key()) != "train":
            continue  # by the whole state: as every game with many starts was split when the bases were made
        if isinstance(game, FrozenLake):
            game.cell = int(rng.choice([cell for cell, tile in enumerate("".join(game.board)) if tile in "SF"]))
            yield game.describe("compact"), player(game)
        elif isinstance(game, MultiPlayerGame):
            yield from _walk_seats(game, player, rng)
        else:
            yield from _walk(game, player, rng)


def _walk(game: TextMediatedStochasticGame, player: Player, rng: np.random.Generator) -> Iterator[Demonstration]:
    """The states of one episode. In Snake the heuristic moves half of the time, so that long snakes are seen, too."""
    ended = False
    while not ended:
        wanted = player(game)
        yield game.describe("compact"), wanted
        if isinstance(game, Snake) and rng.random() < _SKILLED_SHARE:
            action = game.actions.index(greedy_moves(game)[0])
        else:
            action = int(rng.choice(len(wanted), p=wanted))
        _, _, terminated, truncated, _ = game.step(action)
        ended = terminated or truncated


def _walk_seats(game: MultiPlayerGame, player: Player, rng: np.random.Generator) -> Iterator[Demonstration]:
    """What every seat saw in one episode. Half of the moves are uniform, so that odd positions are seen, too."""
    ended = False
    while not ended:
        actions = {}
        for number in game.movers():
            seat = game.seen_by(number)
            wanted = player(seat)
            yield seat.describe("compact"), wanted
            drawn = uniform_player(seat) if rng.random() < _STRAY_SHARE else wanted
            actions[number] = _actions(game)[int(rng.choice(len(drawn), p=drawn))]
        _, terminated, truncated, _ = game.take_turn(actions)
        ended = terminated or truncated
