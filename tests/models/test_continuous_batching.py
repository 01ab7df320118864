"""Continuous batching draws the very tokens that generate draws, leaves no trace, and trains the same run."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM
from transformers.generation.continuous_batching.continuous_api import ContinuousBatchProcessor

from msgrpo_cli.common.seeding import Key
from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.models.continuous_batching import ContinuousBatchingGenerator
from msgrpo_cli.models.generation import Generated, Generator, Request, Sampling, generate
from msgrpo_cli.models.kept_beginnings import KeptBeginnings
from msgrpo_cli.training.train import train_job
from support.parts import WITH_CONTINUOUS_BATCHING, sharp_model

pytestmark = WITH_CONTINUOUS_BATCHING

END = 5
PROMPTS = [[3, 14, 15, 16, 5, 4], [3, 15, 5, 4], [3, 13, 8, 14, 15, 15, 5, 4], [4]] * 8
KEYS: list[Key] = [(0, 1, number) for number in range(len(PROMPTS))]
SMOKE = ["experiment=smoke", "model=tiny", "eval.episodes=16"]


@pytest.fixture(name="model")
def _model() -> LlamaForCausalLM:
    return sharp_model()


def answers(
    generator: Generator, model: LlamaForCausalLM, sampling: Sampling, rows: slice = slice(None)
) -> list[Generated]:
    return generator(model, Request(PROMPTS[rows], KEYS[rows], sampling, 0, [END]))


def logs(found: list[Generated]) -> list[float]:
    return [logprob for answer in found for logprob in answer.logprobs]


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 1.7}, {"temperature": 0.0}, {"top_k": 3}, {"top_p": 0.7}, {"min_p": 0.2}],
    ids=str,
)
def test_tokens_and_log_probabilities_are_those_of_generate(model: LlamaForCausalLM, settings: dict[str, Any]) -> None:
    sampling = Sampling(max_new_tokens=12, **settings)
    ours, theirs = answers(ContinuousBatchingGenerator(), model, sampling), answers(generate, model, sampling)
    assert [answer.token_ids for answer in ours] == [answer.token_ids for answer in theirs]
    assert [answer.truncated for answer in ours] == [answer.truncated for answer in theirs]
    assert settings or {answer.truncated for answer in ours} == {True, False}
    assert logs(ours) == pytest.approx(logs(theirs), abs=1e-5)


def test_prompts_that_are_cut_into_several_passes_change_nothing(model: LlamaForCausalLM) -> None:
    sampling = Sampling(max_new_tokens=12)
    narrow = ContinuousBatchingGenerator({"max_batch_tokens": 5})
    assert [a.token_ids for a in answers(narrow, model, sampling)] == [
        a.token_ids for a in answers(generate, model, sampling)
    ]


def test_an_answer_depends_on_its_key_and_prompt_only(model: LlamaForCausalLM) -> None:
    sampling = Sampling(max_new_tokens=12)
    generator = ContinuousBatchingGenerator()
    together = answers(generator, model, sampling)
    alone = [answers(generator, model, sampling, slice(i, i + 1))[0] for i in range(8)]
    assert [answer.token_ids for answer in alone] == [answer.token_ids for answer in together[:8]]


def test_weights_that_change_between_calls_are_the_ones_that_answer(model: LlamaForCausalLM) -> None:
    sampling = Sampling(max_new_tokens=12)
    generator = ContinuousBatchingGenerator()
    before = answers(generator, model, sampling)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(-0.5)
    after = answers(generator, model, sampling)
    assert [answer.token_ids for answer in after] == [a.token_ids for a in answers(generate, model, sampling)]
    assert [answer.token_ids for answer in after] != [answer.token_ids for answer in before]


def test_beginnings_are_read_once_while_weights_stay_and_again_when_they_change(model: LlamaForCausalLM) -> None:
    rules = [7 + number % 9 for number in range(100)]
    prompts = [[*rules, 8 + number % 4, 5, 4] for number in range(16)]
    sampling, generator = Sampling(max_new_tokens=4), ContinuousBatchingGenerator()
    read: list[int] = []
    hook = model.model.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )

    def answered(kept: KeptBeginnings | None) -> tuple[list[tuple[int, ...]], int]:
        read.clear()
        found = generator(model, Request(prompts, KEYS[:16], sampling, 0, [END], kept))
        tokens = sum(read)
        wanted = generate(model, Request(prompts, KEYS[:16], sampling, 0, [END]))
        assert [answer.token_ids for answer in found] == [answer.token_ids for answer in wanted]
        return [answer.token_ids for answer in found], tokens

    kept = KeptBeginnings(model)
    (_, apart), (before, first), (_, again) = answered(None), answered(kept), answered(kept)
    assert first <= apart
    assert again < first / 3
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(-0.5)
    after, tokens = answered(KeptBeginnings(model))
    hook.remove()
    assert after != before
    assert tokens == first


@pytest.mark.parametrize("training", [True, False])
def test_model_and_torch_s_generator_are_left_as_they_were(model: LlamaForCausalLM, training: bool) -> None:
    model.train(training)
    torch.manual_seed(1)
    answers(ContinuousBatchingGenerator(), model, Sampling(max_new_tokens=4))
    moved = torch.rand(1)
    torch.manual_seed(1)
    assert (model.training, moved) == (training, torch.rand(1))


def test_a_failure_leaves_nothing_behind_for_the_next_call(model: LlamaForCausalLM) -> None:
    sampling = Sampling(max_new_tokens=12)
    generator = ContinuousBatchingGenerator()
    good = answers(generator, model, sampling)

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    hook = model.register_forward_pre_hook(fail)
    with pytest.raises((RuntimeError, RunError), match="out of memory"):
        answers(generator, model, sampling)
    hook.remove()
    assert answers(generator, model, sampling) == good


def test_an_adapter_answers_too(model: LlamaForCausalLM) -> None:
    sampling = Sampling(max_new_tokens=12)
    bare = answers(ContinuousBatchingGenerator(), model, sampling)
    adapted: Any = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    ours = answers(ContinuousBatchingGenerator(), adapted, sampling)
    assert [answer.token_ids for answer in ours] == [a.token_ids for a in answers(generate, adapted, sampling)]
    assert [answer.token_ids for answer in ours] != [answer.token_ids for answer in bare]


def test_mixed_precision_over_float32_weights_is_refused(model: LlamaForCausalLM) -> None:
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RunError, match=r"model\.dtype=bfloat16"):
        answers(ContinuousBatchingGenerator(), model, Sampling(max_new_tokens=4))
    half = model.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert len(answers(ContinuousBatchingGenerator(), half, Sampling(max_new_tokens=4))) == len(PROMPTS)


def test_a_setting_that_transformers_does_not_know_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"transformers_continuous_batching_config: .* 'pages'"):
        ContinuousBatchingGenerator({"pages": 3})


def test_eager_attention_is_refused_before_it_is_switched(model: LlamaForCausalLM) -> None:
    model.set_attn_implementation("eager")
    with pytest.raises(RunError, match="attn_implementation=sdpa"):
        answers(ContinuousBatchingGenerator(), model, Sampling(max_new_tokens=4))
    assert model.config._attn_implementation == "eager"


def test_the_loop_of_transformers_is_the_one_we_run() -> None:
    source = inspect.getsource(ContinuousBatchProcessor)
    for call in ("def prepare_next_batch(self)", "def _generation_step(self, model", "def update_batch(self)"):
        assert call in source


@pytest.mark.slow
def test_a_run_is_the_same_as_with_generate(tmp_path: Path) -> None:
    for engine in ("single", "continuous_batching"):
        overrides = [*SMOKE, f"engine={engine}"]
        train_job(compose("train", overrides), tmp_path / engine, command=["test"], overrides=overrides)
    first, second = (tmp_path / engine for engine in ("single", "continuous_batching"))
    assert (first / "episodes.jsonl").read_bytes() == (second / "episodes.jsonl").read_bytes()
    gaps = [json.loads(line).get("logprob_gap_max") for line in (second / "metrics.jsonl").read_text().splitlines()]
    assert all(gap is None or gap < 1e-4 for gap in gaps) and any(gaps)
