"""How ranks talk: what one says all hear, what fails on one fails on all, and nobody waits for a clock."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from msgrpo_cli.errors import RunError
from msgrpo_cli.training.parallel.ranks import ALONE
from support import talking_ranks
from support.ranks import started


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """By both of two ranks."""
    folder = tmp_path_factory.mktemp("talking")
    said = started(2, str(talking_ranks.__file__), str(folder))
    files = sorted(folder.glob("rank-*.json"))
    assert len(files) == 2, said[-3000:]
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.slow
def test_all_hear_the_same(heard: list[dict[str, Any]]) -> None:
    for one in heard:
        assert one["gathered"] == [0, 10]
        assert one["told"] == "by 0"
    assert heard[1]["heard"] == "a word"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("one fails", "RunError: of rank 1"),
        ("not finite", "NotFinite: no number"),
        ("interrupted", "Interrupted: asked to end"),
        ("a fault before an interruption", "RunError: the fault"),
    ],
)
def test_what_fails_on_one_fails_on_all(heard: list[dict[str, Any]], case: str, told: str) -> None:
    assert [one[case] for one in heard] == [told, told]


@pytest.mark.slow
def test_an_exception_that_cannot_be_sent_is_told_all_the_same(heard: list[dict[str, Any]]) -> None:
    assert [one["not to be sent"] for one in heard] == ["RunError: Unsendable: of a library"] * 2


@pytest.mark.slow
def test_the_first_goes_ahead(heard: list[dict[str, Any]]) -> None:
    assert [one["after the first"] for one in heard] == [False, True]


@pytest.mark.slow
def test_ranks_wait_longer_than_a_gradient_may(heard: list[dict[str, Any]]) -> None:
    assert [one["patient"] for one in heard] == [[0, 1], [0, 1]]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["blamed", "sent and blamed"])
def test_all_know_whose_fault_it_is(heard: list[dict[str, Any]], case: str) -> None:
    assert [one[case] for one in heard] == [f"rank 1 of 2 on {socket.gethostname()}, during scoring"] * 2


@pytest.mark.slow
def test_a_rank_with_other_weights_is_named(heard: list[dict[str, Any]]) -> None:
    host = socket.gethostname()
    told = f"rank 1 of 2 on {host} has others than rank 0 of 2 on {host}; go on with --resume from the last checkpoint"
    assert {one["different weights"] for one in heard} == {
        f"RunError: update 7: the processes have come to different weights: {told}"
    }


@pytest.mark.slow
def test_a_gradient_that_does_not_come_is_one_line(heard: list[dict[str, Any]]) -> None:
    assert heard[1]["late"].startswith("PeerLost: another process of the run has sent no gradient in time: ")
    assert "\n" not in heard[1]["late"]


@pytest.mark.slow
def test_the_others_end_where_the_first_fails_by_itself(heard: list[dict[str, Any]]) -> None:
    assert [one["ended"] for one in heard] == ["RunError: the disk is full", "by the first"]


def test_one_process_alone_talks_to_nobody() -> None:
    assert ALONE.gather(lambda: 3) == [3]
    assert ALONE.told(lambda: "a word") == "a word"
    assert ALONE.after_first(lambda: 4) == 4
    ALONE.tell("nobody")
    with pytest.raises(RunError, match="as it is"), ALONE.led(), ALONE.in_step():
        raise RunError("as it is")
