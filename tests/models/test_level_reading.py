"""Where the tokens of prompts stand among all that levels read, and what a pass costs."""

from __future__ import annotations

import random

import pytest

from msgrpo_cli.models.beginnings import a_pass, plan
from msgrpo_cli.models.level_reading import places_in


@pytest.mark.parametrize("cost", [0, 3, 20])
def test_every_token_is_found_where_it_is_read(cost: int) -> None:
    rng = random.Random(2)
    for _ in range(300):
        prompts = [tuple(rng.choices(range(2), k=rng.randrange(1, 9))) for _ in range(rng.randrange(1, 9))]
        ends = [rng.randrange(len(prompt)) for prompt in prompts]
        levels = plan(prompts, repeating=rng.choice([None, ends]), a_pass=cost)
        read = [
            token
            for level in levels
            for part in level.segments
            for token in (*[None] * (level.width - len(part)), *part)
        ]
        assert [tuple(read[place] for place in places) for places in places_in(levels)] == prompts


def test_a_pass_over_a_larger_model_costs_fewer_tokens() -> None:
    on_cpu = [a_pass(hidden, on_cpu=True) for hidden in (48, 96, 512, 576, 4096)]
    assert on_cpu == [512, 512, 18, 14, 8]
    assert a_pass(4096, on_cpu=False) == 512
