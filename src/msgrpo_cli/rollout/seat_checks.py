"""What `msgrpo env check` asks of games of several players: what each seat sees, and that each gets what is its own.

Knows games, seats and reference players. Knows nothing about single games, models or files. What is secret is known by
`information_key` alone: a secret that both key and text give away, no check can find.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from msgrpo_cli.common.numbers import counted
from msgrpo_cli.common.seeding import generator
from msgrpo_cli.games.core import legal_moves
from msgrpo_cli.games.guard import reason
from msgrpo_cli.games.registry import GameSpec
from msgrpo_cli.games.seats import MultiPlayerGame, utility_problem

from .players import RandomPlayer, players_of
from .start_checks import MEMBERS_STARTED, distinct_starts, share_their_start
from .tables import Place, against_random_play, bring, drawn_turn, made, places
from .visits import OBSERVATIONS, SEEDS, Fault, ends_told, mean_told, speed_of

_ALIKE, _CONTINUED = 200, 6
_TRIED = 100  # places in which every legal move is played
_ROUNDING = 1e-9


def _group_starts(env: GameSpec) -> str:
    """Members of a group share the whole start."""

    def seen(game: MultiPlayerGame) -> list[str]:
        return [game.seen_by(seat).describe(shown) for seat in range(game.players) for shown in OBSERVATIONS]

    def go_on(game: MultiPlayerGame, seed: int, number: int) -> None:
        game.take_turn(drawn_turn(game, generator(("member", seed, number, "actions"))))

    return share_their_start([made(env) for _ in range(MEMBERS_STARTED)], seen, go_on)


def _state_key(env: GameSpec) -> str:
    """Equal keys ask the same seats, and go on alike under equal chance and actions."""
    first_at: dict[bytes, Place] = {}
    pairs_: list[tuple[Place, Place]] = []
    for place, game in places(env):
        other = first_at.setdefault(game.state_key(), place)
        if other is not place and len(pairs_) < _ALIKE:
            pairs_.append((other, place))
    games = (made(env), made(env))
    for number, (one, other) in enumerate(pairs_):
        for game, place in zip(games, (one, other), strict=True):
            bring(game, place)
            game.np_random = generator(("continued", number))
        if (difference := _difference(games[0], games[1], number)) is not None:
            raise Fault(f"equal keys, unequal states {one} and {other}: {difference}")
    return f"{counted(len(first_at), 'key')}; {counted(len(pairs_), 'pair')} of equal ones went on alike"


def _difference(one: MultiPlayerGame, other: MultiPlayerGame, number: int) -> str | None:
    rng = generator(("continued", number, "actions"))
    for step in range(_CONTINUED):
        after = f"after {counted(step, 'further turn')}"
        if max(one.elapsed, other.elapsed) >= one.max_steps:
            return None
        if one.movers() != other.movers():
            return f"other seats are to move {after}"
        for seat in range(one.players):
            if one.elapsed == other.elapsed and one.seen_by(seat).describe() != other.seen_by(seat).describe():
                return f"player {seat} sees other texts {after}"
        turn = drawn_turn(one, rng)
        try:
            (rewards, ended, *_), (other_rewards, other_ended, *_) = one.take_turn(turn), other.take_turn(turn)
        except Exception as problem:  # noqa: BLE001 - a user's game may raise anything
            return f"{turn} cannot be played in both {after}: {reason(problem)}"
        if (rewards, ended) != (other_rewards, other_ended):
            return f"rewards or ends differ {after}"
        if ended:
            return None
        if one.state_key() != other.state_key():
            return f"their keys part {after}"
    return None


def _seen(env: GameSpec) -> str:
    """What a seat may know decides what it reads; and what it may know, it reads, unless the game hides it."""
    of_key: dict[tuple[object, ...], tuple[str, Place]] = {}
    of_text: dict[tuple[object, ...], bytes] = {}
    compared, alike, hides = 0, 0, None
    for place, game in places(env):
        hides = game.hides
        for seat in range(game.players):
            view = game.seen_by(seat)
            key = view.state_key()
            for shown in OBSERVATIONS:
                text = view.describe(shown)
                before, there = of_key.setdefault((seat, game.elapsed, key, shown), (text, place))
                compared += there is not place
                if before != text:
                    raise Fault(
                        f"player {seat} reads what it may not know: information_key({seat}) is the same {there} and "
                        f"{place}, the {shown} texts are {before!r} and {text!r}; leave it out of describe_to, or put "
                        "it into the key where the player may know it"
                    )
            full = (seat, game.elapsed, view.describe())
            alike += of_text.setdefault(full, key) != key
    if alike and hides is None:
        raise Fault(
            f"{alike} times a text stood for several values of information_key; show what a player may know, or say in "
            "`hides` what is hidden"
        )
    return f"{counted(compared, 'text')} of equal information keys are alike" + (f"; hides {hides}" if hides else "")


def _legal(env: GameSpec) -> str:
    """A list follows from what its own seat reads; every move of it can be played; players keep to it."""
    of_text: dict[tuple[object, ...], tuple[tuple[str, ...], Place]] = {}
    there: list[tuple[Place, int, tuple[str, ...]]] = []
    for place, game in places(env):
        for seat in game.movers():
            view = game.seen_by(seat)
            moves = legal_moves(view, "a look at its moves")
            for shown in OBSERVATIONS:
                before, first = of_text.setdefault((seat, shown, view.describe(shown)), (moves, place))
                if before != moves:
                    raise Fault(
                        f"legal_for({seat}) tells what the {shown} text hides: {moves!r} {place}, {before!r} {first}, "
                        "which reads the same; let it follow from what is shown"
                    )
            for name, action in (("greedy", view.greedy_action()), ("search", view.search_action())):
                if action is not None and action not in moves:
                    raise Fault(f"{name}_action_of({seat}) is {action!r} {place}, which is no move of legal_for()")
            there.append((place, seat, moves))
    game, tried = made(env), 0
    for place, seat, moves in there[:: max(1, len(there) // _TRIED)]:
        for move in moves:
            bring(game, place)
            turn = {**drawn_turn(game, generator((*place.noise, "others"))), seat: move}
            try:
                game.take_turn(turn)
            except Exception as problem:  # a user's game may raise anything
                raise Fault(f"the legal turn {turn} cannot be played {place}: {reason(problem)}") from problem
            tried += 1
    listed = "limits them" if game.limits_moves else "every action is a move of every state"
    return f"{listed}; each of {counted(tried, 'move')} could be played"


def _rewards(env: GameSpec) -> str:
    """Each turn's rewards lie in their range and are tied as declared; winners of zero-sum games got no less."""
    said = []
    for name, evaluation in (("training", False), ("evaluation", True)):
        game = made(env, evaluation)
        low, high = game.reward_range
        seen: list[float] = []
        for seed in range(SEEDS):
            totals, ended_by = [0.0] * game.players, None
            bring(game, Place(seed, ("steps", seed, "noise"), ()))
            rng = generator(("steps", seed))
            while ended_by is None and game.elapsed < game.max_steps:
                turn = drawn_turn(game, rng)
                rewards, _, _, ended_by = game.take_turn(turn)
                where = f"of {turn} with seed {seed} in {name}"
                if outside := [one for one in rewards if not low - _ROUNDING <= one <= high + _ROUNDING]:
                    raise Fault(f"a reward of {outside[0]} {where}, outside {low:g} to {high:g}")
                if (problem := utility_problem(game.utility, rewards)) is not None:
                    raise Fault(f"{problem}, {where}")
                seen += rewards
                totals = [total + reward for total, reward in zip(totals, rewards, strict=True)]
            if game.utility == "zero_sum":
                _winners_got_more(game, totals, f"with seed {seed} in {name}")
        said.append(f"{name} {min(seen):g} to {max(seen):g}")
    return f"of random play: {', '.join(said)}; utility {game.utility}"


def _winners_got_more(game: MultiPlayerGame, totals: list[float], where: str) -> None:
    won = [game.success_of(seat) for seat in range(game.players)]
    for winner in range(game.players):
        for loser in range(game.players):
            if won[winner] is True and won[loser] is False and totals[winner] < totals[loser] - _ROUNDING:
                raise Fault(
                    f"player {winner} counts as won with a total reward of {totals[winner]:g}, player {loser} as lost "
                    f"with {totals[loser]:g}, {where}: do the rewards go to the right seats?"
                )


def _exchange(env: GameSpec) -> str:
    """Where seats are said to be alike: who does what another did gets what that one got."""
    game, other = made(env), made(env)
    if not game.seats_are_alike:
        return "the game does not say that its seats are alike: nothing was exchanged"
    players, turns = game.players, 0
    for seed in range(SEEDS):
        rng, ended_by = generator(("exchange", seed)), None
        for one in (game, other):
            bring(one, Place(seed, ("exchange", seed, "noise"), ()))
        while ended_by is None and game.elapsed < game.max_steps:
            if len(game.movers()) < players:
                raise Fault("seats_are_alike is for games in which all decide at once, from one start for all")
            turn = drawn_turn(game, rng)
            moved = {(seat + 1) % players: action for seat, action in turn.items()}
            rewards, _, _, ended_by = game.take_turn(turn)
            exchanged, *_ = other.take_turn(moved)
            if any(abs(rewards[seat] - exchanged[(seat + 1) % players]) > _ROUNDING for seat in range(players)):
                raise Fault(
                    f"seats_are_alike, but {turn} gives {rewards} and {dict(sorted(moved.items()))} {exchanged}, with "
                    f"seed {seed}"
                )
            turns += 1
    return f"{counted(turns, 'turn')} with exchanged seats gave exchanged rewards"


def _ends(env: GameSpec) -> str:
    game, ends = made(env), Counter[str]()
    for seed in range(SEEDS):
        rng, ended_by = generator(("ends", seed)), None
        bring(game, Place(seed, ("ends", seed, "noise"), ()))
        while ended_by is None:
            if game.elapsed >= game.max_steps:
                raise Fault(f"the episode with seed {seed} goes on after max_steps={game.max_steps} turns")
            *_, ended_by = game.take_turn(drawn_turn(game, rng))
        ends[ended_by] += 1
    return ends_told(ends)


def _values(env: GameSpec) -> str:
    """Reference players on every seat, against random play on the others."""
    game, said = made(env), []
    for name, player in players_of(game).items():
        found = against_random_play(env, player)
        for seat in range(game.players):
            rewards = [pair.total_reward for pair in found if pair.seat == seat]
            said.append(f"{name} on seat {seat} {mean_told(rewards) if rewards else 'never decides'}")
    return ", ".join(said)


def _speed(env: GameSpec) -> str:
    return f"{speed_of(lambda: against_random_play(env, RandomPlayer())):.0f} decisions of one seat a second"


SEAT_CHECKS: dict[str, Callable[[GameSpec], str]] = {
    "group starts": _group_starts,
    "seeds differ": distinct_starts,
    "state key": _state_key,
    "what seats see": _seen,
    "legal moves": _legal,
    "rewards": _rewards,
    "exchanged seats": _exchange,
    "ends": _ends,
    "values": _values,
    "speed": _speed,
}
"""In place of those of one player, or beside them."""
OF_ONE_PLAYER = ("renderer", "physics", "beginnings", "gymnasium")
"""Checks that games of several players are not asked."""
