"""Whole groups go to one rank, in turn; every start is played once."""

from __future__ import annotations

import pytest

from msgrpo_cli.episode import Start
from msgrpo_cli.training.parallel.shares import share


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
