"""What counts as trained on: hashes of what was shown, by hand, and of the games that ship."""

from __future__ import annotations

import numpy as np
import pytest

from msgrpo_cli.episode import Completion, Episode, Start, Step
from msgrpo_cli.rollout.trained_prompts import TrainedPrompts


def episode(*observations: str, actions: str = "") -> Episode:
    steps = tuple(
        Step(text, Completion("", action), action, 0.0, str(number).encode())
        for number, (text, action) in enumerate(zip(observations, actions or "a" * len(observations), strict=True))
    )
    return Episode("game", Start(0, 0, 0, (0,)), steps, True, False, "end", None)


def test_starts_and_decisions_by_hand() -> None:
    trained = TrainedPrompts(history=0)
    assert trained.overlap([episode("x")]) == (0.0, 0.0)
    trained.add([episode("a", "b"), episode("a", "c")])
    assert len(trained.hashes) == 3
    # starts a and x, met twice and once; decisions a b a y x z: a, b, a are known
    assert trained.overlap([episode("a", "b"), episode("a", "y"), episode("x", "z")]) == (0.5, 0.5)


def test_a_later_state_of_training_may_be_a_start() -> None:
    trained = TrainedPrompts(history=0)
    trained.add([episode("far away", "near")])
    assert trained.overlap([episode("near")]) == (1.0, 1.0)


def test_with_a_history_what_came_before_is_part_of_the_prompt() -> None:
    trained = TrainedPrompts(history=1)
    trained.add([episode("a", "b", "c", actions="lrl")])
    assert trained.overlap([episode("a", "b", actions="ll")]).decisions == 1.0, "b after going left from a"
    assert trained.overlap([episode("a", "b", actions="rl")]).decisions == 0.5, "and not after going right"
    assert trained.overlap([episode("b")]).starts == 0.0, "a start has nothing before it"
    assert trained.overlap([episode("q", "b", "c", actions="lrl")]).decisions == 1 / 3, "only one state before counts"


def test_a_set_from_its_hashes_is_the_same_set() -> None:
    trained = TrainedPrompts(history=0)
    trained.add([episode(*"abcd")])
    again = TrainedPrompts(0, trained.hashes)
    again.add([episode(*"cdef")])
    assert again.hashes.dtype == np.uint64 and len(again.hashes) == 6
    assert (np.diff(again.hashes) > 0).all()
    assert set(trained.hashes) < set(again.hashes)


def test_hashes_stay_those_of_earlier_checkpoints() -> None:
    trained = TrainedPrompts(history=0)
    trained.add([episode("P . . G")])
    assert trained.hashes.tolist() == [12520908028386553593], "blake2b of the list of what was shown"


def test_no_episodes_have_no_overlap() -> None:
    with pytest.raises(ValueError, match="no episodes"):
        TrainedPrompts(0).overlap([])
