"""Whole groups go to one rank, in turn, or to several that answer together; every start is played once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from msgrpo_cli.episode import Start
from msgrpo_cli.training.parallel.shares import share
from support import together_ranks
from support.ranks import started


def starts(groups: int, members: int, first: int = 0) -> list[Start]:
    return [
        Start(group, group, member, (0, group, member))
        for group in range(first, first + groups)
        for member in range(members)
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("groups", [1, 4, 5])
def test_every_start_is_of_one_rank_with_its_whole_group(count: int, groups: int) -> None:
    there = starts(groups, 3, first=8)  # as where groups with equal rewards are replaced by further ones
    shares = [share(there, rank, count) for rank in range(count)]
    assert sorted(number for one in shares for number in one) == list(range(len(there)))
    for one in shares:
        assert all(len([n for n in one if there[n].group == there[number].group]) == 3 for number in one)
    sizes = [len(one) for one in shares]
    assert max(sizes) - min(sizes) <= 3


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """By each of four ranks."""
    folder = tmp_path_factory.mktemp("together")
    said = started(4, str(together_ranks.__file__), str(folder))
    files = sorted(folder.glob("rank-*.json"))
    assert len(files) == 4, said[-3000:]
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("together", "groups"),
    [(1, [[0], [1], [2], []]), (2, [[0, 2], [0, 2], [1], [1]]), (4, [[0, 1, 2]] * 4)],
)
def test_ranks_that_answer_together_play_the_same_groups(
    together: int, groups: list[list[int]], heard: list[dict[str, Any]]
) -> None:
    for one, played in zip(heard, groups, strict=True):
        as_by_one, asked, _ = one[str(together)]
        assert as_by_one
        assert asked == played


@pytest.mark.slow
def test_weights_are_given_on_every_rank_also_where_it_plays_nothing(heard: list[dict[str, Any]]) -> None:
    assert [one[together][2] for one in heard for together in ("1", "2", "4")] == [1] * 12


@pytest.mark.slow
def test_none_leaves_in_the_midst_of_what_is_answered_together(heard: list[dict[str, Any]]) -> None:
    assert [one["left"] for one in heard] == ["asked to end"] * 4
