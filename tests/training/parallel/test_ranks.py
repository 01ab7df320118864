"""How ranks talk: what one says all hear, what fails on one fails on all, and nobody waits for a clock."""

from __future__ import annotations

import json
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
def test_the_others_end_where_the_first_fails_by_itself(heard: list[dict[str, Any]]) -> None:
    assert [one["ended"] for one in heard] == ["RunError: the disk is full", "by the first"]


def test_one_process_alone_talks_to_nobody() -> None:
    assert ALONE.gather(lambda: 3) == [3]
    assert ALONE.told(lambda: "a word") == "a word"
    assert ALONE.after_first(lambda: 4) == 4
    ALONE.tell("nobody")
    with pytest.raises(RunError, match="as it is"), ALONE.led(), ALONE.in_step():
        raise RunError("as it is")
