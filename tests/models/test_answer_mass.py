"""Masses of answers: of all answers together they are one, and each is what sampling finds, whatever the cache."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.models.answer_mass import Weighing, weigh
from msgrpo_cli.models.beginnings import Tokens
from msgrpo_cli.models.generation import Request, Sampling, generate
from msgrpo_cli.models.loading import load_model
from support.parts import sharp_model
from support.small_models import local, qwen2, recurrent, sliding

PROMPTS: list[Tokens] = [(7, 8, 9, 10), (7, 8), (7, 8, 11, 12, 13, 14, 15)]
ENDS = (0, 4)


def five_words() -> LlamaForCausalLM:
    """A vocabulary of five, two of which end an answer; weights far from uniform."""
    torch.manual_seed(1)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=5, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    )
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(40.0)
    return model


def every_answer(words: tuple[int, ...], longest: int) -> list[Tokens]:
    return list(product(words, repeat=longest))


@pytest.mark.parametrize(
    "law", [{}, {"temperature": 0.3}, {"top_p": 0.8}, {"top_k": 2}, {"min_p": 0.2}, {"temperature": 0.0}], ids=str
)
def test_all_answers_there_are_weigh_one(law: dict[str, Any]) -> None:
    sampling = Sampling(**{"max_new_tokens": 5, **law})
    prompts: list[Tokens] = [(1, 2, 3), (2,), (3, 3)]
    found = weigh(five_words(), Weighing(prompts, every_answer((1, 2, 3), 5), sampling, 0, ENDS))
    assert [len(masses) for masses in found] == [1 + 3 + 9 + 27 + 81 + 243] * 3
    assert [sum(masses.values()) for masses in found] == pytest.approx([1.0] * 3, abs=1e-12)


def test_all_answers_of_tiny_weigh_one() -> None:
    """Of two tokens: 1 that is empty, 177 of one word, 177 squared that are cut."""
    config = compose("train", ["model=tiny"])
    model, tokenizer = load_model(config.model, 0)
    end = int(tokenizer.eos_token_id)
    words = tuple(token for token in range(len(tokenizer)) if token != end)
    asked = Weighing([(3, 10, 19, 5)], every_answer(words, 2), Sampling(max_new_tokens=2), 0, (end,))
    [found] = weigh(model, asked)
    assert len(found) == 1 + len(words) + len(words) ** 2
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-9)


def test_the_mass_of_an_answer_is_how_often_it_is_drawn() -> None:
    model, drawn = five_words(), 4000
    sampling = Sampling(max_new_tokens=3, temperature=0.8)
    [masses] = weigh(model, Weighing([(1, 2, 3)], every_answer((1, 2, 3), 3), sampling, 0, ENDS))
    answers = generate(model, Request([(1, 2, 3)] * drawn, [(0, n) for n in range(drawn)], sampling, 0, ENDS))
    said = Counter(one.token_ids if one.truncated else one.token_ids[:-1] for one in answers)
    assert set(said) <= set(masses)
    for answer, mass in masses.items():
        spread = (mass * (1 - mass) / drawn) ** 0.5
        assert abs(said[answer] / drawn - mass) < 4.5 * spread + 1e-9, answer


def test_the_log_probabilities_are_those_of_sampling() -> None:
    """An answer that ends weighs the product of its tokens and the sum over the ends."""
    model, sampling = sharp_model(), Sampling(max_new_tokens=6, temperature=1.3, top_p=0.9)
    request = Request(PROMPTS, [(0, n) for n in range(3)], sampling, 0, [5])
    for prompt, answer in zip(PROMPTS, generate(model, request), strict=True):
        said = answer.token_ids if answer.truncated else answer.token_ids[:-1]
        [masses] = weigh(model, Weighing([prompt], [said], sampling, 0, (5,)))
        wanted = torch.tensor(answer.logprobs, dtype=torch.float64).sum().exp().item()
        assert masses[said] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("make", [sharp_model, qwen2, sliding, local, recurrent])
def test_caches_of_every_kind(make: Any) -> None:
    """Against plain passes over whole texts, one by one."""
    model = make().eval()
    answers: list[Tokens] = [(9, 10, 11), (9, 10, 12), (13,)]
    found = weigh(model, Weighing(PROMPTS, answers, Sampling(max_new_tokens=8), 0, (5, 6), rows=7))
    for prompt, masses in zip(PROMPTS, found, strict=True):
        assert set(masses) == {(), (9,), (9, 10), (9, 10, 11), (9, 10, 12), (13,)}
        for answer, mass in masses.items():
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([(*prompt, *answer)])).logits[0].double()
            law = logits.softmax(-1)[len(prompt) - 1 :]
            wanted = law[-1, [5, 6]].sum()
            for place, token in enumerate(answer):
                wanted = wanted * law[place, token]
            assert mass == pytest.approx(float(wanted), rel=1e-3)


def test_an_answer_ends_at_its_first_end_and_at_the_limit() -> None:
    """(2, 0, 3): the 0 ends it; of two tokens (3, 3) is whole, and (3, 3, 3) is never said."""
    model = five_words()
    [masses] = weigh(model, Weighing([(1,)], [(2, 0, 3), (3, 3, 3)], Sampling(max_new_tokens=2), 0, ENDS))
    assert set(masses) == {(), (2,), (3,), (3, 3)}


def test_a_law_that_looks_back_is_refused() -> None:
    with pytest.raises(UsageError, match=r"rollout\.repetition_penalty=1\.2"):
        weigh(five_words(), Weighing([(1,)], [(2,)], Sampling(repetition_penalty=1.2), 0, ENDS))


def test_a_prompt_is_read_once() -> None:
    """Three prompts of at most 7 tokens, then a token for each beginning of an answer."""
    model, read = sharp_model(), list[int]()
    hook = model.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    answers: list[Tokens] = [(9, 10, 11), (9, 10, 12), (13,)]
    weigh(model, Weighing(PROMPTS, answers, Sampling(max_new_tokens=8), 0, (5,)))
    hook.remove()
    assert read[0] <= 3 * 7
    assert read[1:] == [3 * 2, 3 * 1, 3 * 2]
