"""Which beginnings are read once: by hand, and against every prefix of random prompts."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from msgrpo_cli.models import beginnings
from msgrpo_cli.models.beginnings import Level, distinct_beginnings, plan

Prompt = tuple[int, ...]


def read_back(levels: list[Level], kept: Iterable[Prompt] = ()) -> list[Prompt]:
    """What the nodes of the last level are, each of which goes on from what was read before it."""
    known = {(), *kept}
    for level in levels:
        assert set(level.beginnings) <= known
        read = [before + part for before, part in zip(level.beginnings, level.segments, strict=True)]
        assert level is levels[-1] or all(level.segments), "whoever adds nothing is not read"
        known |= set(read)
    return read


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A further pass costs nothing by itself."""
    monkeypatch.setattr(beginnings, "PASS", 0)


@pytest.mark.usefixtures("cheap")
def test_what_all_begin_with_then_bundles_then_the_rest() -> None:
    board, other = (1, 1, 1, 1, 2, 2, 2, 2), (1, 1, 1, 1, 3, 3, 3, 3)
    prompts = [(*board, 7), (*other, 7), (*board, 8), (*other, 9)]
    levels = plan(prompts)
    first = board[:4]
    assert levels == [
        Level(((),), (first,), (0, 0, 0, 0)),
        Level((first, first), (board[4:], other[4:]), (0, 1, 0, 1)),
        Level((board, other, board, other), ((7,), (7,), (8,), (9,)), (0, 1, 2, 3)),
    ]
    assert sum(level.read for level in levels) == 4 + 8 + 4 == distinct_beginnings(prompts)


def test_a_pass_that_saves_too_little_is_not_made() -> None:
    prompts = [(*range(100), tail) for tail in range(6)]
    assert plan(prompts) == [Level(((),) * 6, tuple(prompts), tuple(range(6)))], (
        "5 times 100 tokens are less than a pass costs"
    )
    more = [(*range(100), tail) for tail in range(7)]
    assert [len(level.segments) for level in plan(more)] == [1, 7]


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize(
    "prompts",
    [
        [(5,)],
        [(5,), (6,)],
        [(5, 6), (5,)],  # one is the beginning of the other
        [(5, 6, 7), (5, 6), (5,), (5, 6, 8)],
        [(5, 6), (5, 6)],
        [(), (5, 6), (5, 7)],
        [tuple(range(n)) for n in range(1, 200)],  # each the beginning of all that follow
    ],
)
def test_whatever_begins_with_what(prompts: list[Prompt]) -> None:
    levels = plan(prompts)
    assert read_back(levels) == prompts
    assert all(part for part, prompt in zip(levels[-1].segments, prompts, strict=True) if prompt)


@pytest.mark.parametrize("cost", [0, 3, 20])
def test_random_prompts_are_read_back_and_hardly_more_than_once(cost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beginnings, "PASS", cost)
    rng = random.Random(0)
    for _ in range(500):
        prompts = [tuple(rng.choices(range(2), k=rng.randrange(1, 9))) for _ in range(rng.randrange(1, 9))]
        levels = plan(prompts)
        assert read_back(levels) == prompts
        trie = {prompt[:length] for prompt in prompts for length in range(1, len(prompt) + 1)}
        assert distinct_beginnings(prompts) == len(trie)
        apart = len(prompts) * max(map(len, prompts)) + cost
        assert sum(level.read + cost for level in levels) <= apart


def test_one_long_prompt_among_short_ones_does_not_pad_them_all() -> None:
    prompts = [(n, n, n) for n in range(1000)]
    levels = plan([*prompts, tuple(range(2000, 2600))])
    assert read_back(levels)[:1000] == prompts
    assert [len(level.segments) for level in levels] == [1, 1001]
    assert levels[-1].width == 3


@pytest.mark.parametrize("cost", [0, 3, 20])
def test_what_was_kept_is_not_read_again(cost: int) -> None:
    rng = random.Random(1)
    for _ in range(500):
        prompts = [tuple(rng.choices(range(2), k=rng.randrange(1, 9))) for _ in range(rng.randrange(1, 9))]
        known = {prompt[: rng.randrange(len(prompt))] for prompt in prompts[::2]} | {()}
        kept = [max(n for n in range(len(prompt)) if prompt[:n] in known) for prompt in prompts]
        levels = plan(prompts, kept, a_pass=cost)
        assert read_back(levels, known) == prompts
        apart = len(prompts) * max(len(prompt) - n for prompt, n in zip(prompts, kept, strict=True)) + cost
        assert sum(level.read + cost for level in levels) <= apart


@pytest.mark.parametrize("cost", [0, 3, 20])
def test_what_is_known_to_repeat_is_read_before_the_rest_where_that_pays(cost: int) -> None:
    rng = random.Random(3)
    better = 0
    for _ in range(500):
        beginnings = [(*rng.choices(range(2), k=rng.randrange(1, 9)), 9) for _ in range(rng.randrange(1, 4))]
        prompts = list({(*rng.choice(beginnings), *rng.choices(range(2), k=3)) for _ in range(rng.randrange(1, 9))})
        ends = [len(prompt) - 3 for prompt in prompts]
        levels, blind = plan(prompts, repeating=ends, a_pass=cost), plan(prompts, a_pass=cost)
        assert read_back(levels) == prompts
        costs = [sum(level.read + cost for level in one) for one in (levels, blind)]
        before = [prompt[:end] for prompt, end in zip(prompts, ends, strict=True)]
        two_passes = len(set(before)) * max(ends) + 3 * len(prompts) + 2 * cost
        assert costs[0] <= min(costs[1], two_passes)
        better += costs[0] < costs[1]
    assert better or cost == 20
