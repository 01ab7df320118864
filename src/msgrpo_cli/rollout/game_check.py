"""`msgrpo env check`: does a game keep what the method, and its own texts, promise? One check after the other.

Knows the interface of games, players and what is to be checked. Knows nothing about single games, models or files.
Run as a program it reads a game's name, id and keys as JSON and prints a digest of its play, for the check that
compares fresh processes.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations, islice
from math import isfinite
from os import environ, pathsep

from msgrpo_cli.common.checklist import Check
from msgrpo_cli.common.numbers import counted
from msgrpo_cli.common.seeding import generator
from msgrpo_cli.common.text import begin_alike, one_line
from msgrpo_cli.games.core import Observation, TextMediatedStochasticGame
from msgrpo_cli.games.guard import NeverReturned, returning_within
from msgrpo_cli.games.registry import GameBlock, GameSpec, make_game
from msgrpo_cli.games.seats import MultiPlayerGame

from .gym_checks import gymnasium_agrees
from .legal_checks import legal_lists
from .players import RandomPlayer, players_of
from .seat_checks import OF_ONE_PLAYER, SEAT_CHECKS
from .start_checks import group_starts, seeds_differ
from .tables import trace_of_turns
from .visits import (
    OBSERVATIONS,
    SEEDS,
    Fault,
    Game,
    again,
    drawn,
    ends_told,
    mean_told,
    played,
    speed_of,
    steps_of,
    visits,
)

_PAIRS, _CONTINUED = 400, 6
_STRINGS = 10_000
_ROUNDING = 1e-9
_WORDS = re.compile(r"\s*\w+|\s*[^\w\s]")
_LONGEST = 120.0  # seconds for one check; those of the games that ship take a few
_NEVER = "did not return within"


def check_game(env: GameSpec) -> list[Check]:
    """The result of every check, in order; what a check raises is its result.

    A game that does not come back once is not asked again.
    """
    results: list[Check] = []
    for name, look in checks_of(env).items():
        stuck = next((check.name for check in results if not check.passed and _NEVER in check.detail), None)
        results.append(Check(name, False, f"not looked at: see {stuck}") if stuck else _result(name, look, env))
    return results


def checks_of(env: GameSpec) -> dict[str, Callable[[GameSpec], str]]:
    """Those that a game is asked: of several players others than of one."""
    if make_game(env).players == 1:
        return CHECKS
    return {name: look for name, look in {**CHECKS, **SEAT_CHECKS}.items() if name not in OF_ONE_PLAYER}


def _result(name: str, look: Callable[[GameSpec], str], env: GameSpec) -> Check:
    try:
        with returning_within(_LONGEST):
            return Check(name, True, look(env))
    except Fault as fault:
        return Check(name, False, str(fault))
    except (Exception, NeverReturned) as problem:  # noqa: BLE001 - a user's game may raise anything
        return Check(name, False, one_line(problem))


def _repeats(env: GameSpec) -> str:
    """In this process and in two fresh ones, whose hashes of texts differ."""
    digests = {trace(make_game(env))}
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "msgrpo_cli.rollout.game_check"]
        surroundings = {**environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": pathsep.join(filter(None, sys.path))}
        ended = subprocess.run(
            command,
            input=json.dumps({"name": env.name, "id": env.id, "keys": dict(env.keys)}),
            capture_output=True,
            text=True,
            env=surroundings,
            timeout=_LONGEST,
        )
        if ended.returncode:
            raise Fault(f"a fresh process fails: {(ended.stderr.strip() or 'no reason given').splitlines()[-1]}")
        digests.add(ended.stdout.strip())
    if len(digests) > 1:
        raise Fault("the same seeds give other episodes in a fresh process; draw from rng and self.np_random alone")
    return "same seed, same episode, in two fresh processes"


def _state_key(env: GameSpec) -> str:
    """Equal keys must look alike, at equal times, and go on alike under equal chance and actions."""
    visits_of = defaultdict(list)
    for visit, game in visits(env):
        visits_of[game.state_key()].append(visit)
    pairs = [pair for alike in visits_of.values() for pair in islice(combinations(alike, 2), 12)]
    random.Random(0).shuffle(pairs)
    first, second = make_game(env), make_game(env)
    for number, pair in enumerate(pairs[:_PAIRS]):
        for game, visit in zip((first, second), pair, strict=True):
            again(game, visit)
            game.np_random = generator(("continued", number))
        if (difference := _difference(first, second, number)) is not None:
            places = " and ".join(f"seed {visit.seed} after {counted(len(visit.actions), 'move')}" for visit in pair)
            raise Fault(f"equal keys, unequal states ({places}): {difference}")
    return f"{counted(len(visits_of), 'key')}; {counted(min(len(pairs), _PAIRS), 'pair')} of equal ones went on alike"


def _difference(first: Game, second: Game, number: int) -> str | None:
    """What tells two states of equal keys apart."""
    rng = generator(("continued", number, "actions"))
    same_time = first.elapsed == second.elapsed
    for step in range(_CONTINUED + 1):
        if same_time and [first.describe(o) for o in OBSERVATIONS] != [second.describe(o) for o in OBSERVATIONS]:
            return f"their texts differ after {counted(step, 'further move')}"
        if max(first.elapsed, second.elapsed) >= first.max_steps:
            return None
        if first.legal() != second.legal():  # which may follow from the time, too, where the text tells it
            return f"their legal moves differ after {counted(step, 'further move')}" if same_time else None
        action = drawn(first, rng)
        (_, reward, ended, *_), (_, other_reward, other_ended, *_) = first.take(action), second.take(action)
        if (reward, ended) != (other_reward, other_ended):
            return f"rewards or ends differ after {counted(step + 1, 'further move')}"
        if ended:
            return None
        if first.state_key() != second.state_key():
            return f"their keys part after {counted(step + 1, 'further move')}"
    return None


def _renderer(env: GameSpec) -> str:
    """Whether different states look different in the full text."""
    keys_of = defaultdict(set)
    hides = None
    for _, game in visits(env):
        keys_of[game.elapsed, game.describe()].add(game.state_key())
        hides = game.hides
    alike = sum(len(keys) > 1 for keys in keys_of.values())
    if alike and hides is None:
        raise Fault(f"{alike} texts each stand for several states; show what decides, or say in `hides` what is hidden")
    if alike:
        return f"{alike} of {len(keys_of)} texts stand for several states; hides {hides}"
    return f"{len(keys_of)} visited states look different" + (f"; says that it hides {hides}" if hides else "")


def _physics(env: GameSpec) -> str:
    """Every stated fact, in every visited state; positions as they are played."""
    stated: set[tuple[str, str]] = set()
    for _, game in visits(env):
        for fact in game.facts:
            if (problem := fact.problem(game)) is not None:
                raise Fault(problem)
            stated.add((fact.where, fact.name))
    moved = _moves(env)
    if not stated and moved is None:
        return "the game lists no facts: nothing was compared"
    said = [f"{where}: {', '.join(name for place, name in sorted(stated) if place == where)}"
            for where in ("rules", "full", "compact") if any(place == where for place, _ in stated)]  # fmt: skip
    led = [] if moved is None else [f"{counted(moved, 'move')} led where the coordinates say"]
    return "; ".join([*said, *led])


def _moves(env: GameSpec) -> int | None:
    """How many moves changed the stated position; None for games that state none."""
    game = make_game(env)
    if game.moves is None:
        return None
    changed = 0
    for seed in range(SEEDS):
        for before, action, (after, *_) in steps_of(game, seed):
            if (problem := game.moves.problem(game, action, before, after)) is not None:
                raise Fault(problem)
            changed += game.moves.position(before) != game.moves.position(after)
    if not changed:
        raise Fault("no move changes the position that the text states")
    return changed


def _beginnings(env: GameSpec) -> str:
    """What must be read of every text beside what it begins with like others, which is read once."""
    texts: dict[Observation, dict[int, list[list[str]]]] = {one: defaultdict(list) for one in OBSERVATIONS}
    for visit, game in visits(env):
        for observation, of_seed in texts.items():
            of_seed[visit.seed].append(_WORDS.findall(game.describe(observation)))
    said = []
    for observation, of_seed in texts.items():
        groups, whole = list(of_seed.values()), [text for group in of_seed.values() for text in group]
        shares = " and ".join(f"{_behind(parts):.0%}" for parts in ([whole], groups))
        said.append(f"{observation} {shares}")
    return f"words behind what all texts, and those of one start, begin with: {', '.join(said)}"


def _behind(parts: Sequence[Sequence[list[str]]]) -> float:
    """The share of words behind what the texts of each part begin with."""
    words = sum(len(text) for texts in parts for text in texts)
    begun = sum(begin_alike(texts) * len(texts) for texts in parts)
    return 1 - begun / max(words, 1)


def _parser(env: GameSpec) -> str:
    """Each action is read back; ten thousand other strings invent none. With free text any words may be one."""
    game = make_game(env)
    game.reset(seed=0)
    actions = game.actions or game.legal()
    for action in actions:
        for text in (f"<action>{action}</action>", f"I think.\n<action> {action.upper()} </action> done"):
            if game.parse(text) != action:
                raise Fault(f"the answer {text!r} is read as {game.parse(text)!r}, not as {action!r}")
    rng = random.Random(0)
    pieces = ["<action>", "</action>", "<ACTION>", "</Action>", "<act", "ion>", "<think>", " ", "\n", "\0", "é", "none"]
    pieces += [*actions, *(action[:-1] for action in actions), *(action * 2 for action in actions)]
    pieces += game.describe().split()[:20]
    for _ in range(_STRINGS):
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(12)))
        found = game.parse(text)
        if found is None or (game.actions is None and isinstance(found, str) and found.strip()):
            continue
        if found not in actions or not _well_formed(text, found):
            raise Fault(f"{text!r} is read as {found!r}, which it does not say")
    if game.actions is None:
        return f"free text: {len(actions)} moves that are known are read back; {_STRINGS} strings are read, or refused"
    return f"{len(actions)} actions are read back; {_STRINGS} strings invent none"


def _well_formed(text: str, action: str) -> bool:
    tag = rf"<action>\s*{re.escape(action)}\s*</action>"
    return re.search(tag, text, re.IGNORECASE | re.ASCII) is not None


def _rewards(env: GameSpec) -> str:
    said = []
    for name, evaluation in (("training", False), ("evaluation", True)):
        game = make_game(env, evaluation)
        low, high = game.reward_range
        seen = []
        for seed in range(SEEDS):
            for _, _, (_, reward, *_) in steps_of(game, seed):
                if not isfinite(reward) or not low - _ROUNDING <= reward <= high + _ROUNDING:
                    raise Fault(f"a reward of {reward} with seed {seed} in {name}, outside {low:g} to {high:g}")
                seen.append(reward)
        bounds = f"declared {low:g} to {high:g}" if isfinite(low) and isfinite(high) else "no range is declared"
        said.append(f"{name} {min(seen):g} to {max(seen):g} ({bounds})")
    return f"of random play: {', '.join(said)}"


def _ends(env: GameSpec) -> str:
    game = make_game(env)
    ends: Counter[str] = Counter()
    for seed in range(SEEDS):
        *_, (_, _, (_, _, terminated, truncated, info)) = steps_of(game, seed)
        if not (terminated or truncated):
            raise Fault(f"the episode with seed {seed} goes on after max_steps={game.max_steps} steps")
        ends[str(info["ended_by"])] += 1
    return ends_told(ends)


def _values(env: GameSpec) -> str:
    """Random and best known play on the same starts, with 95 % intervals."""
    players = players_of(make_game(env)).items()
    rewards = {name: [episode.total_reward for episode in played(env, player)] for name, player in players}
    return ", ".join(f"{name} {mean_told(of_player)}" for name, of_player in rewards.items())


def _speed(env: GameSpec) -> str:
    return f"{speed_of(lambda: played(env, RandomPlayer())):.0f} steps a second"


CHECKS: dict[str, Callable[[GameSpec], str]] = {
    "repeats": _repeats,
    "group starts": group_starts,
    "seeds differ": seeds_differ,
    "state key": _state_key,
    "renderer": _renderer,
    "physics": _physics,
    "beginnings": _beginnings,
    "parser": _parser,
    "legal moves": legal_lists,
    "rewards": _rewards,
    "ends": _ends,
    "gymnasium": gymnasium_agrees,
    "values": _values,
    "speed": _speed,
}
_SEEDS = range(6)


def trace(game: TextMediatedStochasticGame) -> str:
    """A digest of every text, reward and state of some episodes."""
    if isinstance(game, MultiPlayerGame):
        return trace_of_turns(game, _SEEDS)
    digest = hashlib.sha256()
    for seed in _SEEDS:
        rng = generator(("trace", seed))
        game.reset(seed=seed)
        game.np_random = generator(("trace", seed, "noise"))
        for _ in range(game.max_steps):
            text, reward, terminated, truncated, _info = game.take(drawn(game, rng))
            digest.update(repr((text, reward, terminated, truncated, game.state_key())).encode())
            if terminated or truncated:
                break
    return digest.hexdigest()


if __name__ == "__main__":
    print(trace(make_game(GameBlock(**json.loads(sys.stdin.read())))))
