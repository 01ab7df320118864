"""Answers drawn from shared beginnings are the very answers that `generate` draws."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from msgrpo_cli.common.seeding import Key
from msgrpo_cli.models.caches import has_plain_cache
from msgrpo_cli.models.common_beginning import sees_common
from msgrpo_cli.models.generation import Generated, Request, Sampling, generate
from msgrpo_cli.models.shared_generation import generate_shared
from support.parts import sharp_model
from support.small_models import adapted, biased, local, qwen2, recurrent, sliding

ENDS = [5, 6]
KEYS: list[Key] = [(0, 1, number) for number in range(96)]


def prompts() -> list[list[int]]:
    """96 prompts, ten distinct ones of unlike lengths; one is the beginning of another."""
    rng = random.Random(0)
    some = [[rng.randrange(7, 16) for _ in range(rng.randrange(1, 25))] for _ in range(9)]
    some.append([*some[0], 7])
    return [rng.choice(some) for _ in KEYS]


@pytest.fixture(name="model")
def _model() -> LlamaForCausalLM:
    return sharp_model()


def answers(function: Any, model: Any, sampling: Sampling, rows: slice = slice(None)) -> list[Generated]:
    found: list[Generated] = function(model, Request(prompts()[rows], KEYS[rows], sampling, 0, ENDS))
    return found


def assert_same(found: list[Generated], wanted: list[Generated]) -> None:
    assert [(a.token_ids, a.truncated) for a in found] == [(a.token_ids, a.truncated) for a in wanted]
    ours, theirs = ([value for answer in answers for value in answer.logprobs] for answers in (found, wanted))
    assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 1.7},
        {"temperature": 0.0},
        {"top_k": 3},
        {"top_p": 0.7},
        {"min_p": 0.2},
        {"repetition_penalty": 1.3},
        {"max_new_tokens": 1},
    ],
)
def test_tokens_and_log_probabilities_are_those_of_generate(model: LlamaForCausalLM, settings: dict[str, Any]) -> None:
    sampling = Sampling(**{"max_new_tokens": 9, **settings})
    found = answers(generate_shared, model, sampling)
    assert_same(found, answers(generate, model, sampling))
    assert len({answer.token_ids for answer in found}) > 1


def test_an_answer_depends_on_its_key_and_prompt_only(model: LlamaForCausalLM) -> None:
    sampling = Sampling(max_new_tokens=9)
    some = answers(generate_shared, model, sampling, slice(40, 60))
    assert_same(some, answers(generate_shared, model, sampling)[40:60])


def test_other_architectures_and_adapters() -> None:
    for model in (qwen2(), biased(), adapted().get_base_model(), sliding(), local(), recurrent()):  # the last as ever
        sampling = Sampling(max_new_tokens=9)
        assert_same(answers(generate_shared, model, sampling), answers(generate, model, sampling))


def test_every_distinct_beginning_is_read_once(model: LlamaForCausalLM) -> None:
    read: list[int] = []
    assert sees_common(model), "tried before it is counted"
    hook = model.model.register_forward_pre_hook(
        lambda _, __, given: read.append(len(given["input_ids"])), with_kwargs=True
    )
    found = answers(generate_shared, model, Sampling(max_new_tokens=9))
    hook.remove()
    beginnings = {
        (tuple(prompt), answer.token_ids[:length])
        for prompt, answer in zip(prompts(), found, strict=True)
        for length in range(len(answer.token_ids))
    }
    assert read[0] == len({tuple(prompt) for prompt in prompts()})
    assert sum(read) == len(beginnings)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(model: LlamaForCausalLM, training: bool) -> None:
    model.train(training)
    before = torch.get_rng_state()
    answers(generate_shared, model, Sampling())
    assert model.training is training
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(IndexError):
        generate_shared(model, Request([[10**6]], KEYS[:1], Sampling(), 0, ENDS))
    assert model.training is training


def test_a_model_that_is_being_trained_answers_without_dropout() -> None:
    model = adapted(lora_dropout=0.5).get_base_model().train()
    sampling = Sampling(max_new_tokens=9)
    assert_same(answers(generate_shared, model, sampling), answers(generate, model, sampling))


def test_no_graph_is_kept_and_logits_of_the_last_token_only(model: LlamaForCausalLM) -> None:
    kept: list[torch.Tensor] = []
    hook = model.register_forward_hook(lambda _, __, output: kept.append(output.logits))
    answers(generate_shared, model, Sampling(max_new_tokens=9))
    hook.remove()
    assert {(logits.shape[1], logits.requires_grad) for logits in kept} == {(1, False)}


def test_a_beginning_takes_the_place_of_one_that_ended(model: LlamaForCausalLM) -> None:
    """As many beginnings as before, but others: of two prompts one forks, and the other's answer is over."""
    forks, ends = [7, 8, 9, 10, 11], [12, 13]
    sampling = Sampling(max_new_tokens=9)
    firsts = [a.token_ids[0] for a in generate(model, Request([forks] * 20, KEYS[:20], sampling, 0, []))]
    over = generate(model, Request([ends], KEYS[20:21], sampling, 0, []))[0].token_ids[0]
    one, other = [firsts.index(token) for token in dict.fromkeys(firsts) if token != over][:2]
    request = Request([forks, forks, ends], [KEYS[one], KEYS[other], KEYS[20]], sampling, 0, [over])
    found = generate_shared(model, request)
    assert_same(found, generate(model, request))
    assert [len(answer.token_ids) > 1 for answer in found] == [True, True, False]


class CallsItCache(LlamaForCausalLM):
    """As transformers does from 5.24 on; before that the cache was called `past_key_values`."""

    def forward(
        self, input_ids: Any, attention_mask: Any, position_ids: Any, cache: Any, use_cache: bool, logits_to_keep: int
    ) -> Any:
        return super().forward(
            input_ids, attention_mask, position_ids, cache, use_cache=use_cache, logits_to_keep=logits_to_keep
        )


def test_beginnings_are_shared_under_either_name_of_the_cache(model: LlamaForCausalLM) -> None:
    renamed = CallsItCache(model.config)
    renamed.load_state_dict(model.state_dict())
    assert has_plain_cache(renamed)
    sampling = Sampling(max_new_tokens=9)
    assert_same(answers(generate_shared, renamed, sampling), answers(generate, model, sampling))
