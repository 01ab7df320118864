"""Training rows: every step once, weights by hand, and cuts that lose nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from msgrpo_cli.algo.batching import (
    LengthNormalization,
    Row,
    deal,
    micro_batches,
    step_rows,
    times_read,
    weighed_rows,
)
from msgrpo_cli.episode import Completion, Episode, Start, Step


def row(length: int, episode: int = 0, prompt: int = 3) -> Row:
    return Row((9,) * prompt, (7,) * length, (-0.5,) * length, 1.0, episode)


def played(*answers: tuple[int, ...]) -> Episode:
    steps = tuple(
        Step("", Completion("", None, (t, 90), answer, tuple(-float(token) for token in answer)), None, 0.0, b"")
        for t, answer in enumerate(answers)
    )
    return Episode("lake", Start(0, 0, 0, (0,)), steps, True, False, "goal", True)


# Two episodes: one of two steps with 2 and 4 tokens, one of one step with 3. N = 3, E = 2, sum L = 9.
ROWS = [row(2, 0), row(4, 0), row(3, 1)]


@pytest.mark.parametrize(
    ("normalization", "factors"),
    [
        ("token", [1.0, 1.0, 1.0]),
        ("step", [1.5, 0.75, 1.0]),  # 9 / (3 * 2), 9 / (3 * 4), 9 / (3 * 3)
        ("episode", [1.125, 0.5625, 1.5]),  # 9 / (2 * 2 * 2), 9 / (2 * 2 * 4), 9 / (2 * 1 * 3)
        ("constant", [0.5, 0.5, 0.5]),  # 9 / (3 * 6)
    ],
)
def test_factors_by_hand(normalization: LengthNormalization, factors: list[float]) -> None:
    assert weighed_rows(ROWS, normalization, max_new_tokens=6)[1].tolist() == factors


@pytest.mark.parametrize(
    ("normalization", "weight_of_all_tokens"), [("token", 1.0), ("step", 1.0), ("episode", 1.0), ("constant", 0.5)]
)
def test_weights_of_all_tokens(normalization: LengthNormalization, weight_of_all_tokens: float) -> None:
    """w_i = factor / sum L. Over all tokens they sum to 1, but for `constant`: to sum L / (N max_new_tokens)."""
    lengths = np.array([2, 4, 3])
    weights = weighed_rows(ROWS, normalization, max_new_tokens=6)[1] / 9
    assert (weights * lengths).sum() == pytest.approx(weight_of_all_tokens)


def test_what_each_normalization_makes_equal() -> None:
    lengths = np.array([2, 4, 3])
    assert (weighed_rows(ROWS, "step", 6)[1] * lengths).tolist() == [3.0, 3.0, 3.0]
    shares = weighed_rows(ROWS, "episode", 6)[1] * lengths
    assert shares[0] + shares[1] == shares[2] == 4.5
    assert weighed_rows(ROWS, "constant", 12)[1].tolist() == [0.25] * 3


def test_order_of_rows_only_orders_the_factors() -> None:
    rows = [ROWS[2], ROWS[0], ROWS[1]]
    assert weighed_rows(rows, "episode", 6)[1].tolist() == [1.5, 1.125, 0.5625]


@pytest.mark.parametrize(
    ("normalization", "factors"),
    [
        ("token", [1.0, 1.0]),  # sum L = 5 of the rows that are left
        ("step", [5 / (3 * 2), 5 / (3 * 3)]),  # N counts the row that was cut
        ("episode", [5 / (2 * 2 * 2), 5 / (2 * 1 * 3)]),
        ("constant", [5 / (3 * 6)] * 2),
    ],
)
def test_a_row_that_was_cut_is_left_out_but_counted(normalization: LengthNormalization, factors: list[float]) -> None:
    rows = [ROWS[0], replace(ROWS[1], truncated=True), ROWS[2]]
    left, found = weighed_rows(rows, normalization, 6, mask_truncated=True)
    assert left == [ROWS[0], ROWS[2]] and found.tolist() == pytest.approx(factors)
    assert weighed_rows(rows[1:2], normalization, 6, mask_truncated=True)[0] == []
    assert len(weighed_rows(rows, normalization, 6)[0]) == 3
    assert weighed_rows([], normalization, 6)[0] == []


def test_every_step_of_every_episode_is_one_row() -> None:
    rows = step_rows([(played((1, 2), (3,)), np.array([0.5, 0.25])), (played((4, 5, 6)), np.array([-2.0]))])
    assert rows == [
        Row((0, 90), (1, 2), (-1.0, -2.0), 0.5, 0),
        Row((1, 90), (3,), (-3.0,), 0.25, 0),
        Row((0, 90), (4, 5, 6), (-4.0, -5.0, -6.0), -2.0, 1),
    ]
    assert [row.length for row in rows] == [4, 3, 5]
    assert step_rows([]) == []


@pytest.mark.parametrize(("count", "parts"), [(10, 1), (10, 3), (7, 2), (8, 4), (2, 5), (0, 2)])
def test_dealt_rows_are_a_partition_of_even_sizes(count: int, parts: int) -> None:
    dealt = deal(count, parts, np.random.default_rng(0))
    sizes = [len(part) for part in dealt]
    assert sorted(int(number) for part in dealt for number in part) == list(range(count))
    assert len(dealt) == parts
    assert max(sizes) - min(sizes) <= 1


def test_rows_are_dealt_at_random_unless_there_is_one_part() -> None:
    assert deal(50, 1, np.random.default_rng(0))[0].tolist() == list(range(50))
    first, second = (np.concatenate(deal(50, 2, np.random.default_rng(seed))).tolist() for seed in (0, 1))
    assert first != second
    assert first != list(range(50))
    assert first == np.concatenate(deal(50, 2, np.random.default_rng(0))).tolist()


@pytest.mark.parametrize(("count", "most_rows", "sizes"), [
    (10, 4, [4, 3, 3]), (8, 4, [4, 4]), (3, 100, [3]), (5, 1, [1] * 5), (0, 4, []), (9, 8, [5, 4]),
])  # fmt: skip
def test_micro_batches_are_a_partition_within_bounds(count: int, most_rows: int, sizes: list[int]) -> None:
    lengths = np.random.default_rng(1).integers(1, 9, size=count)
    rows = [row(int(length)) for length in lengths]
    batches = micro_batches(np.arange(count), rows, most_rows, shared=False)
    assert [len(batch) for batch in batches] == sizes
    assert sorted(number for batch in batches for number in batch) == list(range(count))
    ordered = [rows[number].length for batch in batches for number in batch]
    assert ordered == sorted(ordered, reverse=True)


def test_micro_batches_take_the_given_rows_only_longest_first() -> None:
    rows = [row(1, prompt=1), row(5, prompt=9), row(2, prompt=2), row(3, prompt=1), row(1, prompt=3)]
    assert micro_batches(np.array([4, 0, 2, 3]), rows, 2, shared=False) == [
        [2, 3],
        [4, 0],
    ]


def test_shared_micro_batches_keep_prompts_together_and_count_equal_rows_once() -> None:
    kinds = [((7, 8), (1,)), ((9, 9), (2,)), ((7, 8), (1, 1)), ((9, 9), (3,)), ((5,), (4,))]
    rows = [Row(prompt, answer, (0.0,) * len(answer), 1.0, 0) for prompt, answer in kinds]
    several = [0, 1, 2, 3, 4, 0, 0, 3, 2, 1]
    batches = micro_batches(np.arange(10), [rows[kind] for kind in several], 2, shared=True)
    assert batches == [[2, 8, 1, 9], [4, 0, 5, 6], [3, 7]]  # (5,), then (7, 8), then (9, 9): two answers a batch
    assert micro_batches(np.array([], dtype=int), rows, 2, shared=True) == []


def test_equal_answers_to_prompts_of_one_length_neither_merge_nor_part_them() -> None:
    kinds = [((7, 8), (1,)), ((9, 9), (1,)), ((7, 8), (2, 2)), ((9, 9), (2, 2))]
    rows = [Row(prompt, answer, (0.0,) * len(answer), 1.0, 0) for prompt, answer in kinds]
    assert micro_batches(np.arange(4), rows, 2, shared=True) == [[0, 2], [1, 3]]


def test_the_model_reads_equal_rows_once_where_they_are_shared() -> None:
    rows = [Row(prompt, (1, 5), (0.0, 0.0), 1.0, episode) for episode, prompt in enumerate([(7, 8), (7, 8), (9, 9)])]
    assert times_read(rows, shared=True) == 2
    assert times_read(rows, shared=False) == 3
