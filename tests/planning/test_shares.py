"""How an update is shared out among processes: held against what deals it out, and what is sent against hand counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from msgrpo_cli.algo.batching import Row, shared_out
from msgrpo_cli.episode import Start
from msgrpo_cli.planning.shares import Gathered, dealt, longest_share, most, sent, sent_of_parts


@pytest.mark.parametrize(("groups", "processes"), [(16, 2), (5, 2), (1, 4), (3, 8), (7, 7)])
def test_groups_are_counted_as_they_are_dealt(groups: int, processes: int) -> None:
    from msgrpo_cli.training.parallel.shares import share

    starts = [Start(0, group, member, (group, member)) for group in range(groups) for member in range(3)]
    shares = [len(share(starts, rank, processes)) for rank in range(processes)]
    assert max(shares) == 3 * most(groups, processes)
    assert max(shares) / len(starts) == longest_share(groups, processes)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_no_process_has_many_more_rows_than_planned(processes: int) -> None:
    rows = [Row((1, number), (2,), (0.0,), 1.0, number) for number in range(10)]
    of_each = shared_out(np.arange(10), rows, 3, shared=False, ranks=processes)
    longest = max(of_each, key=lambda batches: sum(map(len, batches)))
    assert sum(map(len, longest)) < most(10, processes) + len(longest)  # its micro-batches may each have one more


def test_who_plays_what_is_told() -> None:
    assert dealt(16, 2) == "each plays 8 of an update's 16 groups"
    assert dealt(5, 2) == "of an update's 5 groups rank 0 plays 3, every other rank 2"
    assert dealt(3, 8) == "of an update's 3 groups ranks 0 to 2 play 1, every other rank none"


def test_what_is_sent_by_hand() -> None:
    one = sent(1000, 3, 800, 1)
    assert one.total == 0
    four = sent(1000, 3, 800, 4)
    assert (four.gradients, four.episodes) == (3 * 2 * 750, 600)  # around the ring of four, sums and results


def test_what_is_sent_of_parts_by_hand() -> None:
    asked = Gathered(weights=1000, in_layers=600, gradients=2000, forward=5, backward=3, played=1.5)
    one, four = (sent_of_parts(asked, 800, processes) for processes in (1, 4))
    assert one.total == 0
    assert (four.weights, four.gradients, four.episodes) == (5 * 750 + 1.5 * 750 + 3 * 450, 3 * 1500, 600)
    assert four.total == sum((four.weights, four.gradients, four.episodes))
    over_gloo = sent_of_parts(replace(asked, on_cpu=True), 800, 4)
    assert (over_gloo.weights, over_gloo.gradients, over_gloo.episodes) == (four.weights, 3 * 3000, 600)
