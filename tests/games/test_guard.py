"""What a game does amiss, in words; what is no fault of a game passes through."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest

from msgrpo_cli.errors import Interrupted, UsageError
from msgrpo_cli.games import registry as probe
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.games.guard import (
    AT_STEP,
    BrokenPromise,
    GameError,
    blaming,
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
    with pytest.raises(BrokenPromise, match="the game did not return"), returning_within(0.05):
        while True:
            pass
    assert signal.getsignal(signal.SIGALRM) == before
    with returning_within(600):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0), "no alarm is left behind"


def test_the_trial_before_a_run_names_a_game_that_never_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(FrozenLake):
        def play(self, action: str) -> tuple[float, str | None]:
            while True:
                pass

    monkeypatch.setattr(probe, "_LONGEST", 0.2)
    assert probe.broken_promise(Stuck, "full") == "the game did not return within 0.2 s"


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
