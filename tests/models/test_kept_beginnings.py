"""What is kept is what would be read again, within its budget, and gone when the weights change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache

from msgrpo_cli.common.seeding import Key
from msgrpo_cli.models import shared_generation
from msgrpo_cli.models.beginnings import KEPT_SAVES
from msgrpo_cli.models.generation import Request, Sampling, generate
from msgrpo_cli.models.kept_beginnings import KeptBeginnings
from msgrpo_cli.models.kept_logits import KeptLogits
from msgrpo_cli.models.level_reading import pass_of
from msgrpo_cli.models.shared_generation import generate_shared
from support.parts import sharp_model

ENDS = [5, 6]
RULES = tuple(7 + n % 9 for n in range(300))
BOARDS = [(7 + n, 15 - n, *RULES[n : n + 40 + n]) for n in range(4)]


def decision(number: int) -> Request:
    """96 prompts: the rules, one of four boards, a place; in the second decision of a play other places."""
    prompts = [(*RULES, *BOARDS[n % 4], 7 + (n * number) % 9, 8 + n % (2 + number)) for n in range(96)]
    keys: list[Key] = [(number, n) for n in range(96)]
    return Request(prompts, keys, Sampling(max_new_tokens=4), 0, ENDS)


@pytest.fixture(name="model")
def _model() -> Any:
    return sharp_model()


def answered(model: Any, request: Request, kept: KeptBeginnings | None) -> list[tuple[int, ...]]:
    found = generate_shared(model, Request(request.prompts, request.keys, request.sampling, 0, ENDS, kept))
    wanted = generate(model, request)
    assert [one.token_ids for one in found] == [one.token_ids for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    return [one.token_ids for one in found]


def read_by(model: Any, request: Request, kept: KeptBeginnings) -> int:
    """Tokens of prompts that the model reads for one decision."""
    read: list[int] = []
    hook = model.model.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    one = Sampling(max_new_tokens=1)
    generate_shared(model, Request(request.prompts, request.keys, one, 0, ENDS, kept))
    hook.remove()
    return sum(read)


def test_answers_are_those_of_generate_at_every_decision(model: Any) -> None:
    kept = KeptBeginnings(model)
    for number in range(1, 6):
        answered(model, decision(number), kept)
    assert kept.common is not None and kept.common.token_ids == RULES
    assert kept.longest([tuple(decision(9).prompts[0][len(RULES) :])])[0] > 0


def test_a_beginning_that_is_kept_is_not_read_again(model: Any) -> None:
    kept = KeptBeginnings(model)
    first, again = read_by(model, decision(1), kept), read_by(model, decision(2), kept)
    assert first > len(RULES) + sum(map(len, BOARDS))
    assert again < sum(map(len, BOARDS)), "neither the rules nor the boards"


def test_nothing_is_kept_beyond_its_memory_and_the_answers_stay(model: Any) -> None:
    whole = KeptBeginnings(model)
    for number in range(1, 4):
        answered(model, decision(number), whole)
    size = whole.size
    for budget in (0, size // 3, size):
        kept = KeptBeginnings(model)
        for number in range(1, 4):
            answered(model, decision(number), kept)
            kept.fit(budget)
            assert kept.size <= budget
            assert {number for number, _ in kept._places.values()} == set(kept._blocks)
        assert bool(kept.size) is (budget == size)


def test_what_was_not_used_for_longest_goes_first(model: Any) -> None:
    kept = KeptBeginnings(model)
    for prompt in ([7], [8], [9]):
        cache = DynamicCache(config=model.config)
        model(input_ids=torch.tensor([prompt]), past_key_values=cache)
        kept.keep([tuple(prompt)], cache, torch.ones((1, 1), dtype=torch.long))
    kept.cache([(7,)])
    kept.fit(2 * next(iter(kept._blocks.values())).size)
    assert kept.longest([(token, 1) for token in (7, 8, 9)]) == [1, 0, 1]


def test_rows_of_unlike_lengths_come_out_of_several_blocks(model: Any) -> None:
    kept = KeptBeginnings(model)
    for rows in ([(7, 8, 9), (8, 8, 8)], [(9,)]):
        cache = DynamicCache(config=model.config)
        model(input_ids=torch.tensor(rows), past_key_values=cache)
        kept.keep(rows, cache, torch.ones(len(rows), len(rows[0]), dtype=torch.long))
    cache, mask = kept.cache([(9,), (), (7, 8, 9), (9,)])
    assert mask.tolist() == [[0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 0, 1]]
    whole = DynamicCache(config=model.config)
    model(input_ids=torch.tensor([[7, 8, 9]]), past_key_values=whole)
    for mine, theirs in zip(cache.layers, whole.layers, strict=True):
        torch.testing.assert_close(mine.keys[2], theirs.keys[0])
        torch.testing.assert_close(mine.keys[0, :, 2:], mine.keys[3, :, 2:])
        assert not mine.keys[1].any()


def test_without_memory_nothing_is_kept(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pass is then worth its whole cost."""
    costs: list[int] = []
    plan = shared_generation.plan
    monkeypatch.setattr(
        shared_generation, "plan", lambda *given, a_pass: costs.append(a_pass) or plan(*given, a_pass=a_pass)
    )
    answered(model, decision(1), None)
    answered(model, decision(1), KeptBeginnings(model))
    assert costs == [pass_of(model), pass_of(model) // KEPT_SAVES]


ROOM = 2**20


def forward_passes(model: Any, request: Request, kept: KeptBeginnings) -> int:
    read: list[int] = []
    hook = model.model.register_forward_pre_hook(lambda *_: read.append(1))
    generate_shared(model, Request(request.prompts, request.keys, request.sampling, 0, ENDS, kept))
    hook.remove()
    return len(read)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_what_was_said_is_not_asked_again(model: Any, temperature: float) -> None:
    """The same prompts with other keys: their answers go ways that are known, leave them, and end as they would."""
    kept, sampling = KeptBeginnings(model, ROOM), Sampling(temperature=temperature, max_new_tokens=4)
    for round in range(4):
        asked = decision(1)
        keys: list[Key] = [(round, *key) for key in asked.keys]
        answered(model, Request(asked.prompts, keys, sampling, 0, ENDS), kept)
    assert forward_passes(model, Request(asked.prompts, keys, sampling, 0, ENDS), kept) == 0
    assert forward_passes(model, Request(asked.prompts, keys, sampling, 0, ENDS), KeptBeginnings(model)) > 0


def test_an_answer_that_leaves_what_is_known_reads_on_from_there(model: Any) -> None:
    kept, [prompt] = KeptBeginnings(model, ROOM), [tuple(decision(1).prompts[0])]
    one = Request([prompt], [(0, 0)], Sampling(max_new_tokens=4), 0, ENDS)
    answered(model, one, kept)
    many = Request([prompt] * 40, [(1, n) for n in range(40)], Sampling(max_new_tokens=4), 0, ENDS)
    assert len(set(answered(model, many, kept))) > 5


def test_logits_take_no_more_than_their_room_and_what_beginnings_leave(model: Any) -> None:
    kept = KeptBeginnings(model, ROOM)
    kept.logits.room = rows = 3 * model.config.vocab_size * 4
    answered(model, decision(1), kept)
    assert kept.logits.size <= rows
    kept.logits.room = ROOM
    for number in range(1, 4):
        answered(model, decision(number), kept)
    held = kept.size
    assert kept.logits.size > 0
    budget = held + kept.logits.size // 2
    kept.fit(budget)
    left = budget - kept.size
    assert kept.size and kept.logits.size <= left
    for number in range(4, 7):
        answered(model, decision(number), kept)
        assert kept.logits.size <= left, "between two fits, too"
    kept.fit(0)
    assert not kept.logits.size and not any(tuple(prompt) in kept.logits for prompt in decision(3).prompts)


def test_logits_come_back_in_the_order_that_is_asked_for() -> None:
    kept, first, second = KeptLogits(ROOM), torch.randn(2, 5), torch.randn(1, 5)
    kept.keep([(1,), (1, 2)], first)
    kept.keep([(3,)], second)
    assert torch.equal(kept.after([(3,), (1, 2), (1,)]), torch.stack([second[0], first[1], first[0]]))
    kept.fit(second.numel() * 4)
    assert (3,) in kept and (1,) not in kept, "the oldest goes first"
    kept.keep([(4,)], torch.randn(1, 5))
    assert (4,) in kept and (3,) not in kept, "and makes way for what comes"
    kept.keep([(5,), (6,)], first)
    assert (4,) in kept and (5,) not in kept, "what would not fit alone is not kept"
