"""Which beginnings are read once: by hand, and against every prefix of random prompts."""

from __future__ import annotations

import random

import pytest

from msgrpo_cli.models import beginnings
from msgrpo_cli.models.beginnings import Level, distinct_beginnings, plan

Prompt = tuple[int, ...]


def read_back(levels: list[Level]) -> list[Prompt]:
    """What the nodes of the last level are behind what was read before them."""
    texts: list[Prompt] = [()]
    for level in levels:
        parents = level.parents or (0,) * len(level.segments)
        texts = [texts[parent] + part for parent, part in zip(parents, level.segments, strict=True)]
    return texts


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A further pass costs nothing by itself."""
    monkeypatch.setattr(beginnings, "PASS", 0)


@pytest.mark.usefixtures("cheap")
def test_what_all_begin_with_then_bundles_then_the_rest() -> None:
    board, other = (1, 1, 1, 1, 2, 2, 2, 2), (1, 1, 1, 1, 3, 3, 3, 3)
    prompts = [(*board, 7), (*other, 7), (*board, 8), (*other, 9)]
    levels = plan(prompts)
    assert levels == [
        Level((), ((1, 1, 1, 1),)),
        Level((0, 0), ((2, 2, 2, 2), (3, 3, 3, 3))),
        Level((0, 1, 0, 1), ((7,), (7,), (8,), (9,))),
    ]
    assert sum(level.read for level in levels) == 4 + 8 + 4 == distinct_beginnings(prompts)


def test_a_pass_that_saves_too_little_is_not_made() -> None:
    prompts = [(*range(100), tail) for tail in range(6)]
    assert plan(prompts) == [Level((), tuple(prompts))], "5 times 100 tokens are less than a pass costs"
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
        apart = Level((), tuple(prompts)).read + cost
        assert sum(level.read + cost for level in levels) <= apart
