"""Games are users' code: whatever one raises or returns amiss becomes one line that says which, where and why.

Knows games' names, seeds and steps. Knows nothing about models, training or files.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from types import TracebackType
from typing import Any

from msgrpo_cli.errors import RunError, UsageError

_LARGEST = 1e100
_SHOWN = 20  # words of a list in a message
"""Of a reward; larger ones overflow in sums of squares."""
AT_START = "at the start of the episode with seed {}"
AT_STEP = "at step {} of the episode with seed {}"


class GameError(RunError):
    """A game failed while it was played."""


class blaming:
    """Whatever leaves the block becomes a GameError. A class, for it is entered at every step of every episode."""

    def __init__(self, game: str, place: str, *known: object) -> None:
        """`place` says where the game stands; `known` fills its `{}`."""
        self._game, self._place, self._known = game, place, known

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        ours = isinstance(problem, (UsageError, RunError, MemoryError, KeyboardInterrupt, GeneratorExit))
        if problem is not None and not ours:
            place = self._place.format(*self._known)
            raise GameError(f"game {self._game}: {reason(problem)}, {place}") from problem


def reason(problem: BaseException) -> str:
    """What a game's code raised, in one line; what we raised ourselves needs no type."""
    try:
        text = str(problem)
    except Exception:  # noqa: BLE001 - also its words are the game's own
        text = "(its text cannot be read)"
    said = next((line.strip() for line in text.splitlines() if any(map(str.isalnum, line))), "")
    if isinstance(problem, (BrokenPromise, NeverReturned)):
        return said
    return f"{type(problem).__name__}: {said}" if said else type(problem).__name__


class BrokenPromise(Exception):
    """A game returned what no game may return."""


class NeverReturned(BaseException):
    """A game took too long. No Exception, which a game's own `except Exception` would swallow."""


_AGAIN = 0.1  # seconds after which the alarm rings anew, for a game that swallows it
_PATIENCE = 50  # alarms that a game may swallow


@contextmanager
def returning_within(seconds: float) -> Iterator[None]:
    """Raise NeverReturned in the block when it takes longer: a game that never returns. Python's main thread only.

    It is raised again and again until the block is left. Where the game catches even that, the process is ended: from
    within nothing else can stop it.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    left, alarms = False, 0

    def stop(*_: object) -> None:
        nonlocal alarms
        alarms += 1
        said = f"the game did not return within {seconds:g} s"
        if alarms > _PATIENCE:
            print(f"error: {said}, and catches whatever is to stop it", file=sys.stderr, flush=True)
            os._exit(UsageError.exit_code)
        if not left:
            raise NeverReturned(said)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        try:
            yield
        finally:
            left = True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def checked_outcome(outcome: Any) -> tuple[float, bool, bool, str | None]:
    """(reward, terminated, truncated, word for the end) of what `step` returned. Raises BrokenPromise."""
    if not (isinstance(outcome, tuple) and len(outcome) == 5):
        raise BrokenPromise("step must return (text, reward, terminated, truncated, info)")
    _, reward, terminated, truncated, info = outcome
    reward = checked_reward(reward)
    ended_by = info.get("ended_by") if isinstance(info, dict) else None
    if bool(terminated or truncated) != isinstance(ended_by, str):
        raise BrokenPromise(
            f"the word for the end is {ended_by!r}; play returns (reward, word), the word None meanwhile"
        )
    return reward, bool(terminated), bool(truncated), ended_by


def checked_reward(reward: Any) -> float:
    """A reward as it is counted. Raises BrokenPromise."""
    if not isinstance(reward, Real):
        raise BrokenPromise(f"the reward {reward!r} is not a number")
    if not math.isfinite(reward):
        raise BrokenPromise(f"the reward is {float(reward)}")
    if abs(float(reward)) > _LARGEST:
        raise BrokenPromise(f"the reward is {float(reward)}; more than {_LARGEST:g} overflows")
    return float(reward)


def checked_legal(legal: Any, actions: tuple[str, ...] | None) -> tuple[str, ...]:
    """What `legal` returned; nothing at all only where `actions` is None: free text. Raises BrokenPromise."""
    if actions and legal is actions:
        return actions
    if not (isinstance(legal, tuple) and all(isinstance(move, str) and move.strip() for move in legal)):
        raise BrokenPromise(f"legal() returned {legal!r}; it must return a tuple of words")
    if actions is None:
        if len(set(legal)) < len(legal):
            raise BrokenPromise(f"legal() returned {legal!r}: the same move twice")
        return legal
    if not legal:
        raise BrokenPromise("legal() is empty in a state that asks for a move; end the game there, or leave one move")
    if strange := [move for move in legal if move not in actions]:
        raise BrokenPromise(f"legal() holds {strange[0]!r}, which is none of actions={_few(actions)}")
    if list(legal) != [action for action in actions if action in legal]:
        raise BrokenPromise(f"legal() returned {_few(legal)}; each once, in the order of actions={_few(actions)}")
    return legal


def _few(words: Sequence[str]) -> str:
    """The first of many."""
    return repr(words) if len(words) <= _SHOWN else f"({', '.join(map(repr, words[:_SHOWN]))}, ... {len(words)} in all)"


def checked_metrics(metrics: Any) -> tuple[tuple[str, float], ...]:
    """What `game_metrics` returned. Raises BrokenPromise."""
    for name, value in metrics.items():
        if not isinstance(value, Real) or not math.isfinite(value):
            raise BrokenPromise(f"game_metrics: {name} is {value!r}, not a finite number")
    return tuple(metrics.items())


def check_length(steps: int, max_steps: int) -> None:
    """Raise BrokenPromise for an episode that goes on after its step limit."""
    if steps >= max_steps:
        raise BrokenPromise(f"the episode did not end at max_steps={max_steps}")
