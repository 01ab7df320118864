"""Every token of a packed sequence sees what a sequence of its own would show it, and nothing else."""

from __future__ import annotations

import random

from msgrpo_cli.models.beginnings import distinct_beginnings
from msgrpo_cli.models.packing import NOT_PREDICTED, Packed, pack

Tokens = tuple[int, ...]


def seen_by(one: Packed, place: int) -> list[int]:
    return [other for other in range(place + 1) if place < one.behind[other]]


def test_by_hand() -> None:
    (one,) = pack([(1, 2, 3), (1, 4)], [{0: (7, 8), 1: (9,)}, {2: (7,)}], 100)
    assert one.token_ids == [1, 2, 3, 7, 3, 4]
    assert one.positions == [0, 1, 2, 3, 2, 1]
    assert one.labels == [NOT_PREDICTED, NOT_PREDICTED, 7, 8, 9, 7]
    assert one.behind == [6, 5, 4, 4, 5, 6]
    assert one.first == {0: 2, 1: 4, 2: 5}


def test_random_trees() -> None:
    rng = random.Random(0)
    for most in (1, 12, 10_000):
        for _ in range(300):
            prompts = list({tuple(rng.choices(range(3), k=rng.randrange(1, 8))) for _ in range(rng.randrange(1, 9))})
            answers_of: list[dict[int, Tokens]] = [{} for _ in prompts]
            answers: list[tuple[Tokens, Tokens]] = []
            for prompt, mine in zip(prompts, answers_of, strict=True):
                for _ in range(rng.randrange(1, 4)):
                    answer = tuple(rng.choices(range(3), k=rng.randrange(1, 5)))
                    mine[len(answers)] = answer
                    answers.append((prompt, answer))
            packed = pack(prompts, answers_of, most)
            places = [(one, number, first) for one in packed for number, first in one.first.items()]
            assert sorted(number for _, number, _ in places) == list(range(len(answers)))
            for one, number, first in places:
                prompt, answer = answers[number]
                whole = [*prompt, *answer]
                for step, token in enumerate(answer):
                    seen = seen_by(one, first + step)
                    assert [one.token_ids[place] for place in seen] == whole[: len(prompt) + step]
                    assert [one.positions[place] for place in seen] == list(range(len(prompt) + step))
                    assert one.labels[first + step] == token
            ends = [len(one.token_ids) for one in packed]
            alone = [len({answers[number][0] for number in one.first}) == 1 for one in packed]
            assert all(end <= most or single for end, single in zip(ends, alone, strict=True))
            if most == 10_000:
                beginnings = distinct_beginnings([prompt[:-1] for prompt in prompts])
                assert ends == [beginnings + sum(len(answer) for _, answer in answers)], "each is read once"
