"""Filters and ranking, against episodes typed by hand."""

from __future__ import annotations

import random

import pytest

from msgrpo_cli.analysis.replay.selection import Selected, Selection, select, total_regret
from msgrpo_cli.errors import UsageError
from support.recorded_episodes import Row, episode, step, with_regrets


def chosen(rows: list[Row], **wanted: object) -> Selected[int]:
    return select(enumerate(rows), Selection(**wanted))  # type: ignore[arg-type]


def test_without_a_wish_all_in_order() -> None:
    found = chosen([episode(), episode(update=2)])
    assert (found.places, found.read, found.matching, found.ranked_by) == ([0, 1], 2, 2, None)


def test_filters_and_their_meeting() -> None:
    rows = [
        episode(),
        episode(update=2, ended_by="hole"),
        episode(step("A", None), step("B"), update=2),
        episode(step("A"), step("B"), step("A"), update=2, ended_by="hole"),
    ]
    assert chosen(rows, update=2).places == [1, 2, 3]
    assert chosen(rows, ended_by="hole").places == [1, 3]
    assert chosen(rows, invalid=True).places == [2]
    assert chosen(rows, loop=True).places == [3]
    assert chosen(rows, ended_by="hole", loop=True).places == [3]
    found = chosen(rows, update=2, limit=2)
    assert (found.places, found.matching, found.read) == ([1, 2], 3, 4)


def test_an_update_that_is_not_there_is_told_with_those_that_are() -> None:
    rows = [episode(update=update) for update in (1, 2, 3, 7)]
    with pytest.raises(UsageError, match="--update 4: no episode is of that update; there are 1 to 3, 7"):
        chosen(rows, update=4)
    with pytest.raises(UsageError, match=r"--ended-by goat: no episode ended so; there are goal \(4\)"):
        chosen(rows, ended_by="goat")


def test_the_worst_are_those_of_the_largest_total_regret_and_of_equals_the_earlier() -> None:
    rows = [with_regrets(0.5), with_regrets(1.0, 1.0), with_regrets(None, 2.0), with_regrets(0.0), with_regrets(0.5)]
    found = chosen(rows, worst=3)
    assert (found.places, found.ranked_by, found.unranked) == ([1, 2, 0], "regret", 0)
    assert chosen(rows, worst=9).places == [1, 2, 0, 4, 3]


def test_without_any_regret_the_total_reward_ranks() -> None:
    rows = [with_regrets(None, total_reward=reward) for reward in (1.0, -2.0, 0.0)]
    found = chosen(rows, worst=2)
    assert (found.places, found.ranked_by, found.unranked) == ([1, 2], "total_reward", 0)


def test_in_a_mixture_what_has_no_regret_is_counted_and_left_out() -> None:
    found = chosen([with_regrets(None, total_reward=-9.0), with_regrets(0.1)], worst=2)
    assert (found.places, found.ranked_by, found.unranked) == ([1], "regret", 1)


def test_ranking_keeps_no_more_than_it_must_and_still_is_right() -> None:
    draw = random.Random(0)
    rows = [with_regrets(draw.random()) for _ in range(300)]
    by_hand = sorted(range(300), key=lambda n: -(total_regret(rows[n]) or 0.0))
    assert chosen(rows, worst=10).places == by_hand[:10]
    assert chosen(rows, worst=10, limit=3).places == by_hand[:3]
