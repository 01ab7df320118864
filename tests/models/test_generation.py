"""Sampling with keyed numbers: exactly the softmax at the temperature, and nothing of the model's own config."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    LlamaForCausalLM,
    LogitsProcessorList,
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from msgrpo_cli.common.seeding import Key, uniforms
from msgrpo_cli.models.generation import Generated, KeyedSampler, Request, Sampling, generate
from support.chance import fits
from support.parts import small_model

END = 5
PROMPTS = [[3, 14, 15, 16, 5, 4], [3, 15, 5, 4], [3, 13, 8, 14, 15, 15, 5, 4], [4]] * 8
KEYS: list[Key] = [(0, 1, number) for number in range(len(PROMPTS))]
LOGITS = torch.log(torch.tensor([0.5, 0.25, 0.125, 0.0625, 0.0625]))


@pytest.fixture(name="model", scope="module")
def _model() -> LlamaForCausalLM:
    """Larger weights than at the start of training, so that the distributions are far from uniform."""
    model, _ = small_model(seed=3)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(8.0)
    return model


def answers(model: LlamaForCausalLM, sampling: Sampling, ends: tuple[int, ...] = (END,)) -> list[Generated]:
    return generate(model, Request(PROMPTS, KEYS, sampling, 0, ends))


def chosen(uniform: list[float] | np.ndarray, temperature: float = 1.0, warpers: list[Any] | None = None,
           logits: torch.Tensor = LOGITS) -> tuple[list[int], torch.Tensor]:  # fmt: skip
    """The token of each uniform number, one row each, and its log-probability."""
    column = np.asarray(uniform, dtype=np.float64)[:, None]
    sampler = KeyedSampler(column, temperature, LogitsProcessorList(warpers or []), torch.device("cpu"))
    scores = logits.repeat(len(column), 1)
    kept = sampler(torch.zeros(len(column), 1, dtype=torch.long), scores)
    assert torch.isfinite(kept).sum(dim=1).tolist() == [1] * len(column)
    return kept.argmax(dim=1).tolist(), sampler.logprobs[0]


def test_numbers_become_tokens_by_the_inverse_distribution_function() -> None:
    numbers = [0.0, 0.4999, 0.5001, 0.7499, 0.7501, 0.8749, 0.8751, 0.9374, 0.9376, 1 - 2.0**-53]
    tokens, logprobs = chosen(numbers)
    assert tokens == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert logprobs.exp().tolist() == pytest.approx([0.5, 0.5, 0.25, 0.25, 0.125, 0.125] + [0.0625] * 4, rel=1e-5)


@pytest.mark.parametrize(
    ("temperature", "probabilities"),
    [
        (1.0, [0.5, 0.25, 0.125, 0.0625, 0.0625]),
        (2.0, [0.343146, 0.242641, 0.171573, 0.121320, 0.121320]),  # square roots, divided by 2.0607
        (0.5, [0.744186, 0.186047, 0.046512, 0.0116279, 0.0116279]),  # squares, divided by 0.3359
    ],
)
def test_tokens_follow_the_softmax_at_the_temperature(temperature: float, probabilities: list[float]) -> None:
    keys = [(0, "step", number) for number in range(20_000)]
    tokens, logprobs = chosen(np.array([uniforms(key, 1)[0] for key in keys]), temperature)
    assert fits([tokens.count(token) for token in range(5)], probabilities)
    assert logprobs.exp().tolist() == pytest.approx([probabilities[token] for token in tokens], rel=1e-4)


@pytest.mark.parametrize(
    ("warper", "probabilities"),
    [
        (TopKLogitsWarper(2), [2 / 3, 1 / 3, 0, 0, 0]),
        (TopPLogitsWarper(0.6), [2 / 3, 1 / 3, 0, 0, 0]),
        (TopPLogitsWarper(0.8), [4 / 7, 2 / 7, 1 / 7, 0, 0]),
        (MinPLogitsWarper(0.2), [4 / 7, 2 / 7, 1 / 7, 0, 0]),
    ],
)
def test_tokens_cut_from_the_distribution_are_never_drawn(warper: Any, probabilities: list[float]) -> None:
    numbers = uniforms(("cut",), 10_000)
    numbers[:2] = 0.0, 1 - 2.0**-53
    tokens, logprobs = chosen(numbers, 1.0, [warper])
    allowed = [token for token in range(5) if probabilities[token] > 0]
    assert set(tokens) == set(allowed)
    assert fits([tokens.count(token) for token in allowed], [probabilities[token] for token in allowed])
    assert logprobs.exp().tolist() == pytest.approx([probabilities[token] for token in tokens], rel=1e-4)


def test_impossible_tokens_at_either_end_are_never_drawn() -> None:
    impossible = -torch.inf
    logits = torch.tensor([impossible, impossible, 0.0, impossible, 0.0, impossible, impossible])
    tokens, _ = chosen([0.0, 2.0**-53, 0.4999999, 0.5000001, 1 - 2.0**-53], logits=logits)
    assert tokens == [2, 2, 2, 4, 4]


def test_log_probabilities_are_those_of_a_forward_pass(model: LlamaForCausalLM) -> None:
    for sampling in (Sampling(1.0, 6), Sampling(1.25, 6), Sampling(0.7, 6)):
        for prompt, answer in zip(PROMPTS, answers(model, sampling), strict=True):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([[*prompt, *answer.token_ids]])).logits[0, len(prompt) - 1 : -1]
            again = torch.log_softmax(logits / sampling.temperature, dim=-1)
            expected = again.gather(1, torch.tensor(answer.token_ids)[:, None])[:, 0]
            assert answer.logprobs == pytest.approx(expected.tolist(), abs=1e-4)
            assert len(answer.logprobs) == len(answer.token_ids)


def test_tokens_are_those_of_the_key_s_numbers(model: LlamaForCausalLM) -> None:
    for prompt, key, answer in zip(PROMPTS, KEYS, answers(model, Sampling(1.0, 6)), strict=True):
        ids = list(prompt)
        for number, token in zip(uniforms(key, 6), answer.token_ids, strict=False):
            with torch.no_grad():
                cumulative = model(input_ids=torch.tensor([ids])).logits[0, -1].double().softmax(-1).cumsum(-1)
            assert cumulative[token] >= number - 1e-5
            assert token == 0 or cumulative[token - 1] <= number + 1e-5
            ids.append(token)


def argmax_decoding(model: LlamaForCausalLM, prompt: list[int], tokens: int) -> tuple[int, ...]:
    ids = list(prompt)
    while len(ids) < len(prompt) + tokens and (len(ids) == len(prompt) or ids[-1] != END):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return tuple(ids[len(prompt) :])


def test_temperature_0_is_greedy_decoding(model: LlamaForCausalLM) -> None:
    greedy = answers(model, Sampling(0.0, 6))
    assert [answer.token_ids for answer in greedy] == [argmax_decoding(model, prompt, 6) for prompt in PROMPTS]
    assert {logprob for answer in greedy for logprob in answer.logprobs} == {0.0}
    assert [answer.token_ids for answer in greedy] != [answer.token_ids for answer in answers(model, Sampling(1.0, 6))]


def test_an_answer_ends_with_its_first_end_of_turn_or_is_truncated(model: LlamaForCausalLM) -> None:
    limit = 12
    sampled = answers(model, Sampling(2.0, limit))
    for answer in sampled:
        assert answer.truncated is (answer.token_ids[-1] != END)
        assert END not in answer.token_ids[:-1]
        assert not answer.truncated or len(answer.token_ids) == limit
    assert {answer.truncated for answer in sampled} == {True, False}
    assert len({len(answer.token_ids) for answer in sampled}) > 3


def test_an_end_of_turn_at_the_limit_is_no_truncation(model: LlamaForCausalLM) -> None:
    long = answers(model, Sampling(2.0, 12))
    number, answer = next((i, one) for i, one in enumerate(long) if not one.truncated and len(one.token_ids) > 1)
    length = len(answer.token_ids)
    exact = answers(model, Sampling(2.0, length))[number]
    assert (exact.token_ids, exact.truncated) == (answer.token_ids, False)
    assert answers(model, Sampling(2.0, length - 1))[number].truncated


def test_every_end_of_turn_ends(model: LlamaForCausalLM) -> None:
    plain, both = answers(model, Sampling(2.0, 12)), answers(model, Sampling(2.0, 12), ends=(END, 9))
    cut = 0
    for one, other in zip(plain, both, strict=True):
        length = next((i + 1 for i, token in enumerate(one.token_ids) if token in (END, 9)), len(one.token_ids))
        assert other.token_ids == one.token_ids[:length]
        assert other.truncated is (other.token_ids[-1] not in (END, 9))
        cut += length < len(one.token_ids)
    assert cut > 0


def test_an_answer_depends_on_its_key_and_prompt_only(model: LlamaForCausalLM) -> None:
    sampling = Sampling(1.0, 6)
    together = [answer.token_ids for answer in answers(model, sampling)]
    for number in (0, 1, 2, 3, 17):
        (alone,) = generate(model, Request([PROMPTS[number]], [KEYS[number]], sampling, 0, [END]))
        assert alone.token_ids == together[number]
    other_keys: list[Key] = [(1, *key) for key in KEYS]
    others = generate(model, Request(PROMPTS, other_keys, sampling, 0, [END]))
    assert sum(one.token_ids == other for one, other in zip(others, together, strict=True)) < 4


OWN_CONFIG = {
    "repetition_penalty": 1.3,
    "top_k": 1,
    "top_p": 0.01,
    "min_p": 0.9,
    "temperature": 0.01,
    "do_sample": True,
    "no_repeat_ngram_size": 1,
    "min_new_tokens": 6,
    "min_length": 30,
    "max_length": 9,
    "max_time": 1e-9,
    "suppress_tokens": [5, 9, 14, 15],
    "bad_words_ids": [[5], [14]],
    "forced_eos_token_id": 5,
    "sequence_bias": [[[9], 10.0]],
    "num_beams": 3,
    "num_return_sequences": 3,
    "return_dict_in_generate": True,
    "stop_strings": ["left"],
    "eos_token_id": [9, 14, 15],
}


@pytest.mark.parametrize("name", OWN_CONFIG)
def test_nothing_of_the_model_s_own_generation_config_leaks_in(model: LlamaForCausalLM, name: str) -> None:
    model = copy.deepcopy(model)
    samplings = (Sampling(1.0, 6), Sampling(0.0, 6))
    before = [answers(model, sampling) for sampling in samplings]
    setattr(model.generation_config, name, OWN_CONFIG[name])
    assert [answers(model, sampling) for sampling in samplings] == before
    assert getattr(model.generation_config, name) == OWN_CONFIG[name], "and the model keeps it"


def test_the_model_is_left_as_it_was_also_after_a_failure(model: LlamaForCausalLM) -> None:
    model = copy.deepcopy(model)
    own = model.generation_config
    for training in (True, False):
        model.train(training)
        answers(model, Sampling(1.0, 2))
        assert model.training is training
        assert model.generation_config is own
    model.train()
    with pytest.raises(IndexError):
        generate(model, Request([[3, 10_000]], [(0,)], Sampling(1.0, 2), 0, [END]))
    assert model.training
    assert model.generation_config is own


def test_dropout_is_off_while_sampling(model: LlamaForCausalLM) -> None:
    model = copy.deepcopy(model)
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    calm = [answer.token_ids for answer in answers(model.eval(), Sampling(1.0, 6))]
    assert [answer.token_ids for answer in answers(model.train(), Sampling(1.0, 6))] == calm


def test_settings_that_cut_the_distribution_are_obeyed(model: LlamaForCausalLM) -> None:
    greedy = [answer.token_ids for answer in answers(model, Sampling(0.0, 6))]
    assert [answer.token_ids for answer in answers(model, Sampling(1.0, 6, top_k=1))] == greedy
    assert [answer.token_ids for answer in answers(model, Sampling(1.0, 6, top_p=1e-6))] == greedy
    assert [answer.token_ids for answer in answers(model, Sampling(1.0, 6, min_p=1.0))] == greedy
    penalised = answers(model, Sampling(0.0, 6, repetition_penalty=1e6))
    for prompt, answer in zip(PROMPTS, penalised, strict=True):
        words = [token for token in answer.token_ids if token != END]
        assert len(set(words)) == len(words)
        assert not set(words) & set(prompt)


def test_sampling_is_stored_in_full() -> None:
    assert Sampling(0.5, 8).to_json() == {
        "temperature": 0.5,
        "max_new_tokens": 8,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": None,
        "repetition_penalty": 1.0,
    }
