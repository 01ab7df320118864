"""Every token of a packed sequence sees what a sequence of its own would show it, and nothing else."""

from __future__ import annotations

import random

from msgrpo_cli.models.beginnings import distinct_beginnings
from msgrpo_cli.models.packing import Packed, pack


def seen_by(one: Packed, place: int) -> list[int]:
    return [other for other in range(place + 1) if place < one.behind[other]]


def test_by_hand() -> None:
    (one,) = pack([(1, 2, 3, 7), (1, 2, 3), (1, 4)], 100)
    assert one.token_ids == [1, 2, 3, 7, 4]
    assert one.positions == [0, 1, 2, 3, 1]
    assert one.behind == [5, 4, 4, 4, 5]
    assert one.places == {1: [0, 1, 2], 0: [0, 1, 2, 3], 2: [0, 4]}


def test_random_trees() -> None:
    rng = random.Random(0)
    for most in (1, 12, 10_000):
        for _ in range(300):
            texts = [tuple(rng.choices(range(3), k=rng.randrange(1, 9))) for _ in range(rng.randrange(1, 12))]
            packed = pack(texts, most)
            found = [(one, number, places) for one in packed for number, places in one.places.items()]
            assert sorted(number for _, number, _ in found) == list(range(len(texts)))
            for one, number, places in found:
                for depth, place in enumerate(places):
                    seen = seen_by(one, place)
                    assert seen == places[: depth + 1]
                    assert [one.token_ids[other] for other in seen] == list(texts[number][: depth + 1])
                    assert one.positions[place] == depth
            ends = [len(one.token_ids) for one in packed]
            alone = [len(set(map(texts.__getitem__, one.places))) == 1 for one in packed]
            assert all(end <= most or single for end, single in zip(ends, alone, strict=True))
            if most == 10_000:
                assert ends == [distinct_beginnings(texts)], "each is read once"
