"""Keyed randomness: typed-in first values, uniform, and as different as the keys."""

from __future__ import annotations

import json

import numpy as np
import pytest

from msgrpo_cli.common.seeding import Key, generator, seed_from, uniforms
from support.chance import KOLMOGOROV_LIMIT, fits


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ((0,), [0.29386191431895814, 0.15286168703452319, 0.15265573904131458]),
        ((1, "eval", 2, 0), [0.2500034681366682, 0.5593163479900596, 0.5827630746258136]),
    ],
)
def test_first_uniforms_of_a_key_on_every_machine(key: Key, expected: list[float]) -> None:
    assert uniforms(key, 3).tolist() == expected


def test_first_numbers_of_a_generator_on_every_machine() -> None:
    assert generator((0, 1, 2, 3)).random(3).tolist() == [0.2990533438110614, 0.5113717011870285, 0.271734752814496]
    assert generator((0, 1, 2, 3)).integers(1000, size=3).tolist() == [427, 299, 698]


def test_first_seed_of_a_key_on_every_machine() -> None:
    assert seed_from((0, "start", 0)) == 3278000478570099


def test_a_longer_request_starts_with_the_same_numbers() -> None:
    longest = uniforms((5, "a"), 300)
    assert longest.dtype == np.float64
    assert longest.shape == (300,)
    for count in (0, 1, 7, 299):
        assert uniforms((5, "a"), count).tolist() == longest[:count].tolist()


def _is_uniform(numbers: np.ndarray) -> bool:
    count = len(numbers)
    steps = np.arange(count + 1) / count
    ordered = np.sort(numbers)
    gap = max(float((steps[1:] - ordered).max()), float((ordered - steps[:-1]).max()))
    counts = np.bincount((numbers * 16).astype(int), minlength=16)
    return gap * count**0.5 < KOLMOGOROV_LIMIT and fits(counts.tolist(), [1 / 16] * 16)


def test_numbers_of_one_key_are_uniform() -> None:
    numbers = uniforms((7, "token"), 50_000)
    assert _is_uniform(numbers)
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
    assert not _is_uniform(numbers**1.05), "the test must see a small bend"


def test_first_numbers_of_many_keys_are_uniform_and_unrelated_to_their_neighbours() -> None:
    numbers = np.array([uniforms((0, update, group), 1)[0] for update in range(100) for group in range(100)])
    assert _is_uniform(numbers)
    assert abs(float(np.corrcoef(numbers[1:], numbers[:-1])[0, 1])) < 0.033  # 3.29 / sqrt(10 000)


def test_different_keys_give_different_numbers() -> None:
    keys: list[Key] = [(seed, update, group) for seed in range(10) for update in range(10) for group in range(10)]
    keys += [(), (1,), (11,), (1, 1), (111,), (1, 11), (11, 1), ("eval", 1), (1, "eval"), (-1,), (2**60,)]
    assert len({float(uniforms(key, 1)[0]) for key in keys}) == len(keys)
    assert len({float(generator(key).random()) for key in keys}) == len(keys)
    assert len({seed_from(key) for key in keys}) == len(keys)


def test_seeds_are_exact_in_json_even_where_all_numbers_are_floats() -> None:
    seeds = [seed_from((index,)) for index in range(1000)]
    assert json.loads(json.dumps(seeds), parse_int=float) == seeds
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert max(seeds) > 2**52, "all 53 bits are used"
