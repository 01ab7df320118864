"""What a game does amiss, in words; what is no fault of a game passes through."""

from __future__ import annotations

import contextlib
import functools
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import Interrupted, UsageError
from msgrpo_cli.games import registry as probe
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.games.guard import (
    AT_STEP,
    BrokenPromise,
    GameError,
    NeverReturned,
    blaming,
    checked_legal,
    checked_metrics,
    checked_outcome,
    returning_within,
)


def test_a_game_s_error_names_game_step_and_seed() -> None:
    with pytest.raises(GameError) as caught, blaming("maze", AT_STEP, 3, 17):
        raise KeyError("wall\nsecond line")
    assert str(caught.value) == "game maze: KeyError: 'wall\\nsecond line', at step 3 of the episode with seed 17"


@pytest.mark.parametrize("problem", [MemoryError(), UsageError("no start"), Interrupted("asked", 130)])
def test_what_is_no_fault_of_a_game(problem: BaseException) -> None:
    with pytest.raises(type(problem)) as caught, blaming("maze", AT_STEP, 3, 17):
        raise problem
    assert caught.value is problem


@pytest.mark.parametrize("reward", [1, 0.5, True, np.float32(0.5), np.int64(2)])
def test_numbers_are_rewards(reward: Any) -> None:
    assert checked_outcome(("text", reward, False, False, {"ended_by": None})) == (float(reward), False, False, None)
    assert type(checked_outcome(("text", reward, True, False, {"ended_by": "goal"}))[0]) is float


@pytest.mark.parametrize(
    "outcome",
    [
        None,
        ("text", 1.0, False, False),
        ("text", 1j, False, False, {}),
        ("text", np.ones(2), False, False, {}),
        ("text", 1.0, True, False, {}),
        ("text", 1.0, False, False, {"ended_by": "goal"}),
    ],
)
def test_anything_else_is_a_broken_promise(outcome: Any) -> None:
    with pytest.raises(BrokenPromise):
        checked_outcome(outcome)


def test_a_game_that_exits_is_no_success() -> None:
    with pytest.raises(GameError, match=r"game maze: SystemExit: 0, at step 1"), blaming("maze", AT_STEP, 1, 5):
        raise SystemExit(0)


def test_metrics_of_a_game_are_finite_numbers() -> None:
    assert checked_metrics({"apples": 2, "share": 0.5}) == (("apples", 2), ("share", 0.5))
    for value in (float("nan"), "many", None):
        with pytest.raises(BrokenPromise, match=r"game_metrics: apples is .*, not a finite number"):
            checked_metrics({"apples": value})


def test_a_game_that_never_returns_is_stopped_and_the_alarm_put_back() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(NeverReturned, match="the game did not return"), returning_within(0.05):
        while True:
            pass
    assert signal.getsignal(signal.SIGALRM) == before
    with returning_within(600):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0), "no alarm is left behind"


def stuck(*_: object) -> None:
    while True:
        pass


def swallowing(*_: object) -> None:
    while True:
        with contextlib.suppress(Exception):  # as a user's game may
            time.sleep(0.01)


def swallowing_all(*_: object) -> None:
    for _ in range(3):
        with contextlib.suppress(BaseException):
            time.sleep(30)
    stuck()


HANGS = [stuck, swallowing, swallowing_all]


@pytest.mark.parametrize("hang", HANGS)
def test_a_game_that_swallows_the_alarm_is_stopped_all_the_same(hang: Callable[[], None]) -> None:
    with pytest.raises(NeverReturned, match=r"^the game did not return within 0\.05 s$"), returning_within(0.05):
        hang()
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0), "no alarm is left behind"
    blamed = pytest.raises(GameError, match=r"^game maze: the game did not return within 0\.05 s, at step 3 of")
    with blamed, returning_within(0.05), blaming("maze", AT_STEP, 3, 17):
        hang()


def test_one_that_swallows_every_alarm_ends_with_a_line() -> None:
    program = (
        "import time\nfrom msgrpo_cli.games import guard\nguard._AGAIN = 0.01\nwith guard.returning_within(0.05):\n"
        "    while True:\n        try:\n            while True:\n                try:\n"
        "                    time.sleep(9)\n"
        "                except BaseException: pass\n        except BaseException: pass\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: the game did not return within 0.05 s, and catches whatever is to stop it\n"


@pytest.mark.parametrize("hang", HANGS)
@pytest.mark.parametrize(
    ("part", "place"),
    [
        ("play", "when it was played at random with seed 0"),
        ("new_game", "when it was made or first reset"),
        ("state_key", "at the start with seed 0"),
    ],
)
def test_the_trial_before_a_run_names_a_game_that_never_returns(
    monkeypatch: pytest.MonkeyPatch, hang: Callable[[], None], part: str, place: str
) -> None:
    class Stuck(FrozenLake):
        pass

    monkeypatch.setattr(Stuck, part, hang)
    monkeypatch.setattr(probe, "_LONGEST", 0.2)
    assert probe.broken_promise(Stuck, "full") == f"the game did not return within 0.2 s, {place}"


@pytest.mark.parametrize("part", ["__init__", "play"])
def test_a_config_whose_game_never_returns_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setattr(probe, "_LONGEST", 0.2)
    compose("train", ["seed=1"])  # which is as fast
    hung = functools.wraps(getattr(FrozenLake, part))(lambda *_, **__: swallowing())  # type: ignore[misc]
    monkeypatch.setattr(FrozenLake, part, hung)
    with pytest.raises(UsageError) as caught:
        compose("train", [])
    assert re.match(r"env\.(id|name).*the game did not return within 0\.2 s", str(caught.value))
    assert "\n" not in str(caught.value)


def test_a_parser_may_read_the_state_since_nothing_is_asked_before_a_reset() -> None:
    class Careful(FrozenLake):
        def new_game(self, rng: np.random.Generator) -> None:
            super().new_game(rng)
            self.begun = True

        def parse(self, text: str) -> str | None:
            return super().parse(text) if self.begun else None

    assert probe.broken_promise(Careful, "full") is None
    with pytest.raises(AttributeError):
        Careful().parse("<action>up</action>")


@pytest.mark.parametrize(
    ("legal", "actions", "said"),
    [
        (["up"], ("up", "down"), r"legal\(\) returned \['up'\]; it must return a tuple of words"),
        ((1,), ("up", "down"), "must return a tuple of words"),
        ((" ",), None, "must return a tuple of words"),
        ((), ("up", "down"), "is empty in a state that asks for a move"),
        (("fly",), ("up", "down"), "holds 'fly', which is none of actions"),
        (("down", "up"), ("up", "down"), "each once, in the order of actions"),
        (("up", "up"), ("up", "down"), "each once, in the order of actions"),
        (("take key", "take key"), None, "the same move twice"),
    ],
)
def test_a_list_of_legal_moves_that_breaks_its_promise(legal: Any, actions: Any, said: str) -> None:
    with pytest.raises(BrokenPromise, match=said):
        checked_legal(legal, actions)


def test_a_list_of_legal_moves_that_keeps_it() -> None:
    for legal, actions in (
        (("down",), ("up", "down")),
        (("up", "down"), ("up", "down")),
        ((), None),
        (("b", "a"), None),
    ):
        assert checked_legal(legal, actions) == legal
