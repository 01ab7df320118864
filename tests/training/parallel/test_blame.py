"""An error says whose it is, whatever kind it is of and whatever it was turned into on the way."""

from __future__ import annotations

import pickle

import pytest

from msgrpo_cli.errors import Interrupted, NotFinite, RunError, UsageError
from msgrpo_cli.training.parallel.blame import blame, blamed, naming

WHOSE = "rank 1 of 2 on node7, during rollout"


def test_the_first_who_is_blamed_stays_so_on_every_way() -> None:
    error = blame(RunError("the fault"), WHOSE)
    assert blamed(blame(error, "rank 0 of 2 on node3, during rollout")) == WHOSE
    assert blamed(pickle.loads(pickle.dumps(error))) == WHOSE
    with pytest.raises(RunError) as told:
        try:
            raise blame(OSError(28, "no room"), WHOSE)
        except OSError as cause:
            raise RunError("the disk is full") from cause
    assert blamed(told.value) == WHOSE
    assert blamed(RunError("of nobody")) is None
    assert blamed(blame(RunError("of nobody"), None)) is None


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (RunError("the fault"), "the fault", 1),
        (UsageError("key=value: not so"), "key=value: not so", 2),
        (Interrupted("ended by SIGTERM", 143), "ended by SIGTERM", 143),
        (NotFinite("no number", {"loss": 1.0}, [2]), "no number", 1),
        (RuntimeError("of torch\nwith a trace"), "of torch", 1),
        (KeyError("name"), "KeyError: 'name'", 1),
        (OSError(2, "no such file", "x"), "FileNotFoundError: [Errno 2] no such file: 'x'", 1),
    ],
)
def test_a_message_names_the_rank_and_the_exit_code_stays(error: BaseException, said: str, code: int) -> None:
    named = naming(error, WHOSE)
    assert str(named) == f"{said} ({WHOSE})"
    assert getattr(named, "exit_code", 1) == code
    assert "\n" not in str(named)
