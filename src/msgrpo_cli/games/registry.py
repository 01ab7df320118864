"""From an `env` block to a game: finds its class, checks its keys, builds it, and tries a few steps of it.

Knows gymnasium's registry, constructors' signatures and the interface of games. Knows nothing about single games,
configs, models or training.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import sys
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from msgrpo_cli.common.text import did_you_mean, one_line, reason_of
from msgrpo_cli.errors import UsageError

from .core import InitialStates, Observation, TextMediatedStochasticGame
from .guard import (
    BrokenPromise,
    NeverReturned,
    check_length,
    checked_legal,
    checked_outcome,
    reason,
    returning_within,
)
from .seats import MultiPlayerGame, SeatView


class GameSpec(Protocol):
    """What names a game and its settings; the `env` block of a config is one."""

    @property
    def name(self) -> str:
        """What users call it."""

    @property
    def id(self) -> str:
        """Its id in gymnasium's registry, after the module that registers it and a colon where that is not ours."""

    @property
    def keys(self) -> Mapping[str, Any]:
        """What its constructor takes."""


@dataclass(frozen=True)
class GameBlock:
    """A game's name, id and constructor arguments as plain data."""

    name: str
    id: str
    keys: Mapping[str, Any]

    @classmethod
    def of(cls, block: Mapping[str, Any]) -> GameBlock:
        """From one mapping that holds all of them side by side. Raises ValueError where name or id is missing."""
        if missing := [key for key in ("name", "id") if not isinstance(block.get(key), str)]:
            raise ValueError(f"games: a block without {' and '.join(missing)}")
        return cls(block["name"], block["id"], {key: block[key] for key in block if key not in ("name", "id")})


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_TO_FILL_IN = ("new_game", "play", "describe", "rules", "state_key")
_OF_SEATS = ("to_move", "play_turn", "describe_to", "information_key")
_SEEDS = range(3)
_MOST_STEPS = 50  # of a longer game only the beginning is tried
_LONGEST = 30.0  # seconds for each part of the trial: making the game, a start, the beginning of an episode
_SAME_START = "new_game must draw everything from the generator it is given, and keep nothing from before"


def check_allowed(env_id: str, allow_modules: Collection[str]) -> None:
    """Refuse a saved config that would import code nobody named: UsageError unless its module is allowed."""
    module, colon, _ = env_id.rpartition(":")
    if colon and module not in allow_modules:
        raise UsageError(
            f"env.id={env_id}: a saved config may not import '{module}' by itself; "
            f"pass --allow-module {module} if you trust it"
        )


def game_class(env: GameSpec) -> type[TextMediatedStochasticGame]:
    """The class behind `env.id`; a module named before a colon is imported first. Raises UsageError."""
    module, colon, name = env.id.rpartition(":")
    if colon:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
                importlib.import_module(module)
        except ImportError as problem:
            raise UsageError(f"env.id={env.id}: cannot import '{module}': {one_line(problem)}") from problem
        except (Exception, SystemExit) as problem:
            raise UsageError(f"env.id={env.id}: cannot import '{module}': {reason(problem)}") from problem
    spec = gymnasium.registry.get(name)
    if spec is None:
        hint = did_you_mean(name, gymnasium.registry)
        raise UsageError(f"env.id={env.id}: no game of that name is registered with gymnasium{hint}")
    entry = spec.entry_point
    try:
        found = load_env_creator(entry) if isinstance(entry, str) else entry
    except (ImportError, AttributeError, ValueError, gymnasium.error.Error) as problem:
        raise UsageError(f"env.id={env.id}: cannot import '{entry}': {one_line(problem)}") from problem
    if inspect.isclass(found) and issubclass(found, TextMediatedStochasticGame):
        return found
    if "actions" not in env.keys:
        raise UsageError(
            f"env.id={env.id}: not a TextMediatedStochasticGame, so it has no words; give it some: "
            "env=gym env.id=... env.actions=[...] env.template=..."
        )
    return _wrapped(env.id)


def _wrapped(env_id: str) -> type[TextMediatedStochasticGame]:
    """The words of a config around an environment that has none."""
    from .gym import wrapped

    try:
        return wrapped(env_id)
    except Exception as problem:
        raise UsageError(f"env.id={env_id}: cannot be made: {reason(problem)}") from problem


def make_game(env: GameSpec, evaluation: bool = False) -> TextMediatedStochasticGame:
    """A game with the keys of `env`; in evaluation with those the class declares for it on top."""
    cls = game_class(env)
    return cls(**{**env.keys, **(cls.evaluation_keys if evaluation else {})})


def env_problems(env: GameSpec) -> list[str]:
    """One line for every part that the game lacks, and every key that its constructor does not take, or not so."""
    cls = game_class(env)
    if missing := missing_parts(cls):
        return [f"env.id={env.id}: {cls.__name__} has no {' and no '.join(missing)}"]
    parameters = inspect.signature(cls).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    unknown = [] if open_ended else [key for key in env.keys if key not in parameters]
    lines = [_unknown(key, cls, list(parameters)) for key in unknown]
    lines += [
        f"env.{name}: missing; {cls.__name__} needs it"
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and parameter.kind in _NAMED and name not in env.keys
    ]
    lines += _type_problems(env.keys, _hints(cls))
    return lines or _refusal(cls, env.keys)


def play_problems(env: GameSpec, observation: Observation) -> list[str]:
    """What a few steps of the game show to be wrong with it, in training and in evaluation."""
    for evaluation in (False, True):
        found = broken_promise(lambda evaluation=evaluation: make_game(env, evaluation), observation)  # type: ignore[misc]
        if found is not None:
            said = found.removeprefix("ValueError: ")
            key = re.split("[=:]", said)[0]
            return [f"env.{said}" if key in env.keys else f"env.name={env.name}: {found}"]
    return []


def _hints(cls: Any) -> Mapping[str, Any]:
    """The constructor's annotations; none where they name what cannot be found (imports for type checkers alone)."""
    try:
        return typing.get_type_hints(cls.__init__)
    except (NameError, TypeError, AttributeError):
        return {}


def _unknown(key: str, cls: type, names: list[str]) -> str:
    hint = did_you_mean(f"env.{key}", [f"env.{name}" for name in names]) or f" (it takes {', '.join(names)})"
    return f"env.{key}: unknown key: {cls.__name__} takes no such key{hint}"


def _type_problems(keys: Mapping[str, Any], hints: Mapping[str, Any]) -> list[str]:
    lines = []
    for key, value in keys.items():
        if key not in hints:
            continue
        try:
            TypeAdapter(hints[key]).validate_python(value, strict=True)
        except PydanticSchemaGenerationError:
            continue  # a type of the game's own, which its constructor checks
        except ValidationError as problem:
            line = f"env.{key}={value}: {reason_of(problem.errors()[0]['msg'])}"
            if isinstance(value, list):
                line += f"; to run each value use msgrpo sweep env.{key}={','.join(map(str, value))}"
            lines.append(line)
    return lines


def _refusal(cls: type[TextMediatedStochasticGame], keys: Mapping[str, Any]) -> list[str]:
    """What the constructor itself says against its keys; by convention "key=value: reason"."""
    try:
        with returning_within(_LONGEST):
            cls(**keys)
    except ValueError as problem:
        said = one_line(problem)
        return [f"env.{said}" if said.partition("=")[0] in keys else f"env.id: {cls.__name__} cannot be made: {said}"]
    except (Exception, NeverReturned) as problem:  # noqa: BLE001 - a user's constructor may raise anything
        return [f"env.id: {cls.__name__} cannot be made: {reason(problem)}"]
    return []


def missing_parts(cls: type[TextMediatedStochasticGame]) -> list[str]:
    """What a game's class must define and does not."""
    wanted = (*_TO_FILL_IN, *(_OF_SEATS if issubclass(cls, MultiPlayerGame) else ()))
    parts = [name for name in wanted if getattr(getattr(cls, name), "__isabstractmethod__", False)]
    return parts if hasattr(cls, "actions") else ["actions", *parts]


def broken_promise(make_game: Callable[[], TextMediatedStochasticGame], observation: Observation) -> str | None:
    """The first promise that a game breaks, in words; None where none was broken."""
    place = "when it was made or first reset"
    try:
        with returning_within(_LONGEST):
            game, other = make_game(), make_game()
            _check_actions(game)
        for seed, play in [*((seed, False) for seed in _SEEDS), *((seed, True) for seed in _SEEDS)]:
            place = f"when it was played at random with seed {seed}" if play else f"at the start with seed {seed}"
            with returning_within(_LONGEST):
                if play:
                    _check_play(game, seed)
                _check_start(game, other, seed, observation)
    except NeverReturned as problem:
        return f"{reason(problem)}, {place}"
    except Exception as problem:  # noqa: BLE001 - a user's code may raise anything
        return reason(problem)
    return None


def _check_actions(game: TextMediatedStochasticGame) -> None:
    actions = game.actions if game.actions is not None else ("free text",)
    if not (isinstance(actions, tuple) and actions and all(isinstance(action, str) for action in actions)):
        raise BrokenPromise(f"actions={actions!r}: must be a tuple of words, or None for free text")
    if not all(action.strip() for action in actions):
        raise BrokenPromise(f"actions={actions!r}: an empty word")
    if len(set(actions)) < len(actions):
        raise BrokenPromise(f"actions={actions!r}: the same word twice")
    if game.initial_states not in get_args(InitialStates):
        raise BrokenPromise(f"initial_states={game.initial_states!r}: must be 'many', 'few' or 'connected'")
    game.reset(seed=_SEEDS[0])  # a parser may read the state, and of a mixture the start decides the actions
    listed, where = (game.legal(), "legal()") if game.actions is None else (game.actions, "actions")
    if unreadable := [action for action in listed if game.parse(f"<action>{action}</action>") != action]:
        raise BrokenPromise(f"{where}: {unreadable[0]!r} is not read back from its own tag; use lower case words")


def _check_start(
    game: TextMediatedStochasticGame, other: TextMediatedStochasticGame, seed: int, observation: Observation
) -> None:
    """Members of a group are reset with one seed, so they must start alike."""
    for one in (game, other):
        one.reset(seed=seed)
    if isinstance(game, MultiPlayerGame) and isinstance(other, MultiPlayerGame):
        for player in range(game.players):
            _check_seat(game.seen_by(player), other.seen_by(player), seed, observation)
    keys = [one.state_key() for one in (game, other)]
    if not all(isinstance(key, bytes) for key in keys):
        raise BrokenPromise(f"state_key() must return bytes, not {type(keys[0]).__name__}")
    texts = [one.describe(observation) for one in (game, other)]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise BrokenPromise(f"describe({observation!r}) must return a text, not {texts[0]!r}")
    if keys[0] != keys[1] or texts[0] != texts[1]:
        raise BrokenPromise(f"two games that are reset with seed {seed} start differently; {_SAME_START}")


def _check_seat(view: SeatView, other: SeatView, seed: int, observation: Observation) -> None:
    """What every seat sees at the start, it may move or not."""
    key, text, where = view.state_key(), view.describe(observation), f"player {view.player}"
    if not isinstance(key, bytes):
        raise BrokenPromise(f"information_key({view.player}) must return bytes, not {type(key).__name__}")
    if not (isinstance(text, str) and text.strip()):
        raise BrokenPromise(f"describe_to({view.player}, {observation!r}) must return a text, not {text!r}")
    if key != other.state_key() or text != other.describe(observation):
        raise BrokenPromise(f"two games that are reset with seed {seed} look different to {where}; {_SAME_START}")


def _check_play(game: TextMediatedStochasticGame, seed: int) -> None:
    """Play an episode at random, or its beginning; not where a game of free text lists no moves."""
    rng = np.random.default_rng(seed)
    game.reset(seed=seed)
    game.np_random = rng
    if isinstance(game, MultiPlayerGame):
        _check_turns(game, rng)
        return
    for step in range(_MOST_STEPS):
        check_length(step, game.max_steps)
        if not (moves := checked_legal(game.legal(), game.actions)):
            return
        *_, ended_by = checked_outcome(game.take(moves[int(rng.integers(len(moves)))]))
        if ended_by is not None:
            return


def _check_turns(game: MultiPlayerGame, rng: np.random.Generator) -> None:
    for turn in range(_MOST_STEPS):
        check_length(turn, game.max_steps)
        actions = {}
        for player in game.movers():
            view = game.seen_by(player)
            if not (moves := checked_legal(view.legal(), view.actions)):
                return
            actions[player] = moves[int(rng.integers(len(moves)))]
        *_, ended_by = game.take_turn(actions)
        if ended_by is not None:
            return
