"""Whether a game keeps its promises, as far as a few steps of it tell, before anything is played in earnest.

Knows the interface of games. Knows nothing about single games, models or training.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .core import Observation, TextMediatedStochasticGame
from .guard import BrokenPromise, check_length, checked_outcome, reason, returning_within

_TO_FILL_IN = ("new_game", "play", "describe", "rules", "state_key")
_SEEDS = range(3)
_MOST_STEPS = 50  # of a longer game only the beginning is tried
_LONGEST = 120.0  # seconds for all of it
_SAME_START = "new_game must draw everything from the generator it is given, and keep nothing from before"


def missing_parts(cls: type[TextMediatedStochasticGame]) -> list[str]:
    """What a game's class must define and does not."""
    parts = [name for name in _TO_FILL_IN if getattr(getattr(cls, name), "__isabstractmethod__", False)]
    return parts if hasattr(cls, "actions") else ["actions", *parts]


def broken_promise(make_game: Callable[[], TextMediatedStochasticGame], observation: Observation) -> str | None:
    """The first promise that a game breaks, in words; None where none was broken."""
    try:
        with returning_within(_LONGEST):
            game, other = make_game(), make_game()
            _check_actions(game)
            for seed in _SEEDS:
                _check_start(game, other, seed, observation)
            for seed in _SEEDS:
                _check_play(game, seed)
                _check_start(game, other, seed, observation)
    except Exception as problem:  # noqa: BLE001 - a user's code may raise anything
        return reason(problem)
    return None


def _check_actions(game: TextMediatedStochasticGame) -> None:
    actions = game.actions
    if not (isinstance(actions, tuple) and actions and all(isinstance(action, str) for action in actions)):
        raise BrokenPromise(f"actions={actions!r}: must be a tuple of words")
    if not all(action.strip() for action in actions):
        raise BrokenPromise(f"actions={actions!r}: an empty word")
    if unreadable := [action for action in actions if game.parse(f"<action>{action}</action>") != action]:
        raise BrokenPromise(f"actions: {unreadable[0]!r} is not read back from its own tag; use lower case words")
    if len(set(actions)) < len(actions):
        raise BrokenPromise(f"actions={actions!r}: the same word twice")
    if game.initial_states not in ("many", "few"):
        raise BrokenPromise(f"initial_states={game.initial_states!r}: must be 'many' or 'few'")


def _check_start(
    game: TextMediatedStochasticGame, other: TextMediatedStochasticGame, seed: int, observation: Observation
) -> None:
    """Members of a group are reset with one seed, so they must start alike."""
    for one in (game, other):
        one.reset(seed=seed)
    keys = [one.state_key() for one in (game, other)]
    if not all(isinstance(key, bytes) for key in keys):
        raise BrokenPromise(f"state_key() must return bytes, not {type(keys[0]).__name__}")
    texts = [one.describe(observation) for one in (game, other)]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise BrokenPromise(f"describe({observation!r}) must return a text, not {texts[0]!r}")
    if keys[0] != keys[1] or texts[0] != texts[1]:
        raise BrokenPromise(f"two games that are reset with seed {seed} start differently; {_SAME_START}")


def _check_play(game: TextMediatedStochasticGame, seed: int) -> None:
    """Play an episode at random, or its beginning."""
    rng = np.random.default_rng(seed)
    game.reset(seed=seed)
    game.np_random = rng
    for step in range(_MOST_STEPS):
        check_length(step, game.max_steps)
        *_, ended_by = checked_outcome(game.step(int(rng.integers(len(game.actions)))))
        if ended_by is not None:
            return
