"""What `msgrpo env check` asks of a game's starts: that a group shares one, that seeds differ, that held out means it.

Knows games, starts and the parts that they are split into. Knows nothing about single games, models or files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

from msgrpo_cli.common.numbers import counted
from msgrpo_cli.common.seeding import generator
from msgrpo_cli.games.core import Observation, legal_moves
from msgrpo_cli.games.registry import GameSpec, make_game

from .split import has_split
from .visits import OBSERVATIONS, SEEDS, Fault, Game, visits

_STARTS = 10 * SEEDS
MEMBERS_STARTED = 3
AnyGame = TypeVar("AnyGame", bound=Game)


def group_starts(env: GameSpec) -> str:
    """Members of a group share the whole start."""

    def go_on(game: Game, seed: int, number: int) -> None:
        moves = legal_moves(game, "a look at its starts")
        game.take(moves[number % len(moves)])

    games = [make_game(env) for _ in range(MEMBERS_STARTED)]
    return share_their_start(games, lambda game: [game.describe(shown) for shown in OBSERVATIONS], go_on)


def share_their_start(
    games: Sequence[AnyGame], seen: Callable[[AnyGame], list[str]], go_on: Callable[[AnyGame, int, int], None]
) -> str:
    """What was found of the members of a group; `go_on` moves one of them, given the seed and its number."""
    for seed in range(SEEDS):
        starts = set()
        for number, game in enumerate(games):
            game.reset(seed=seed)
            starts.add((game.state_key(), *seen(game)))
            game.np_random = generator(("member", seed, number))
            go_on(game, seed, number)
        if len(starts) > 1:
            raise Fault(f"members of a group start differently with seed {seed}; new_game must draw from its rng alone")
    return f"members share their whole start, {SEEDS} seeds"


def seeds_differ(env: GameSpec) -> str:
    """Other seeds give other starts, as many as the game says."""
    starts = distinct_starts(env)
    _starts_are_apart(env)
    return starts


def distinct_starts(env: GameSpec) -> str:
    """How many there are. Raises Fault where a game that says to have many has one."""
    game = make_game(env)
    keys = set()
    for seed in range(SEEDS):
        game.reset(seed=seed)
        keys.add(game.state_key())
    if len(keys) == 1 and game.initial_states == "many":
        raise Fault(f"{SEEDS} seeds give one start; use rng in new_game, or say initial_states = 'few'")
    unheld = len(keys) == SEEDS and game.initial_states == "few"
    hint = "; with 'many' some would be held out for evaluation" if unheld else ""
    return f"{counted(len(keys), 'start')} from {SEEDS} seeds, initial_states {game.initial_states}{hint}"


def _starts_are_apart(env: GameSpec) -> None:
    """Whether play leads to what reads like a start of another part: then holding that start out holds nothing out."""
    game = make_game(env)
    starts: defaultdict[tuple[Observation, str], dict[bytes, int]] = defaultdict(dict)
    for seed in range(_STARTS):
        game.reset(seed=seed)
        for shown in OBSERVATIONS:
            starts[shown, game.describe(shown)][game.present.split_key()] = seed
    began, part = {}, b""
    for visit, game in visits(env):
        texts = {shown: game.describe(shown) for shown in OBSERVATIONS}
        if not visit.actions:
            began, part = texts, game.present.split_key()
        if not has_split(game):
            continue
        for shown, text in texts.items():
            others = {key: seed for key, seed in starts.get((shown, text), {}).items() if key != part}
            if text == began[shown] or not others:
                continue
            lead = counted(len(visit.actions), "move leads", "moves lead")
            raise Fault(
                f"{lead} from the start of seed {visit.seed} to what reads ({shown}) like that of seed "
                f"{min(others.values())}: say initial_states = 'connected', so that none counts as held out, or let "
                "split_key name what play never changes"
            )
