"""Answers of other weights than those that are trained end a run before an optimizer step, whichever update it is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForCausalLM,
    DbrxConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MixtralConfig,
    PhimoeConfig,
    PreTrainedTokenizerFast,
    RwkvConfig,
    RwkvForCausalLM,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from msgrpo_cli.algo.batching import step_rows
from msgrpo_cli.errors import NotFinite, RunError
from msgrpo_cli.models.dropout import active_dropout
from msgrpo_cli.rollout.collect import PlayedUpdate
from msgrpo_cli.training.loss.gap import EXACT, ROUNDED, GapBound, checked_gap, gap_bound
from msgrpo_cli.training.loss.shared_logprobs import Sharing
from support.parts import (
    first_gradient,
    one_step_episodes,
    played_update,
    relative_difference,
    small_model,
    trainer_for,
    with_advantages,
)
from support.plain_trl import ANSWERS, PROMPTS
from support.small_models import attention_dropping_out


def _dropping_out() -> LlamaForCausalLM:
    model, _ = small_model()
    model.model.norm = torch.nn.Sequential(model.model.norm, torch.nn.Dropout(0.1))  # type: ignore[assignment]
    return model


BOUND = {"max_logprob_gap": EXACT.largest, "mean_logprob_gap": EXACT.mean}


def playing(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> tuple[list[int], Callable[[int], PlayedUpdate]]:
    """A play function around a model, and the updates that it was asked for."""
    asked: list[int] = []

    def play(update: int) -> PlayedUpdate:
        asked.append(update)
        return played_update(model, tokenizer, update)

    return asked, play


class _SaveFirst(TrainerCallback):
    """A checkpoint after the first update."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        control.should_save = state.global_step == 1
        return control


def test_fresh_weights_train(tmp_path: Path) -> None:
    model, tokenizer = small_model()
    asked, play = playing(model, tokenizer)
    trainer = trainer_for(tmp_path, model, tokenizer, play, max_updates=2, **BOUND)
    trainer.train()
    assert asked == [1, 2]
    assert trainer.update_metrics()["logprob_gap_max"] < 1e-5


def test_weights_of_another_model_end_the_run_before_the_first_step(tmp_path: Path) -> None:
    model, tokenizer = small_model()
    other, _ = small_model(seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    asked, play = playing(other, tokenizer)
    trainer = trainer_for(tmp_path, model, tokenizer, play, max_updates=2, **BOUND)
    with pytest.raises(RunError, match=r"^update 1: sampling and training disagree.*stale weights"):
        trainer.train()
    assert asked == [1]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_slightly_stale_copy_is_found_too(tmp_path: Path) -> None:
    """What an engine holds that missed one optimizer step."""
    model, tokenizer = small_model()
    stale, _ = small_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1e-3 * parameter.sign())
    _, play = playing(stale, tokenizer)
    trainer = trainer_for(tmp_path, model, tokenizer, play, max_updates=1, **BOUND)
    with pytest.raises(RunError, match="the weights were not changed"):
        trainer.train()


@pytest.mark.parametrize("optimizer_steps", [1, 2])
def test_a_jump_at_a_later_update_ends_the_run_before_its_weights_change(tmp_path: Path, optimizer_steps: int) -> None:
    model, tokenizer = small_model()
    other, _ = small_model(seed=1)
    kept: list[dict[str, torch.Tensor]] = []

    def play(update: int) -> PlayedUpdate:
        kept.append({name: value.clone() for name, value in model.state_dict().items()})
        return played_update(model if update < 3 else other, tokenizer, update)

    trainer = trainer_for(
        tmp_path, model, tokenizer, play, max_updates=4, optimizer_steps=optimizer_steps, num_iterations=2, **BOUND
    )
    with pytest.raises(RunError, match=r"^update 3: sampling and training disagree"):
        trainer.train()
    assert len(kept) == 3
    assert all(torch.equal(value, kept[-1][name]) for name, value in model.state_dict().items())


def test_a_resumed_run_is_checked_too(tmp_path: Path) -> None:
    model, tokenizer = small_model()
    other, _ = small_model(seed=1)
    saved = tmp_path / "saved"
    _, play = playing(model, tokenizer)
    first = trainer_for(tmp_path / "first", model, tokenizer, play, max_updates=2, **BOUND)
    first.on_checkpoint = lambda partial, update: partial.rename(saved)
    first.add_callback(_SaveFirst())
    first.train()
    _, play_other = playing(other, tokenizer)
    resumed = trainer_for(tmp_path / "second", model, tokenizer, play_other, max_updates=2, **BOUND)
    with pytest.raises(RunError, match=r"^update 2: sampling and training disagree"):
        resumed.train(resume_from_checkpoint=str(saved))


@pytest.mark.parametrize(
    ("make", "place"), [(attention_dropping_out, "attention_dropout=0.1"), (_dropping_out, "p=0.1")]
)
def test_dropout_is_named_as_the_cause(tmp_path: Path, make: Callable[[], Any], place: str) -> None:
    model, tokenizer = make(), small_model()[1]
    _, play = playing(model, tokenizer)
    trainer = trainer_for(tmp_path, model, tokenizer, play, max_updates=1, **BOUND)
    with pytest.raises(RunError, match=rf"Likely cause: dropout is active .*{place}.*trainer.disable_dropout=true"):
        trainer.train()
    assert model.training
    trainer_for(tmp_path, model, tokenizer, play, max_updates=1, disable_dropout=True, **BOUND).train()


def _mixture(config: Any, **settings: Any) -> Any:
    """A small mixture of experts that reads the tokens of `small_model`."""
    tokens = small_model()[1]
    ends = {"pad_token_id": tokens.pad_token_id, "eos_token_id": tokens.eos_token_id, "bos_token_id": None}
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config(vocab_size=len(tokens), **settings, **ends))


MIXTURE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None,
}  # fmt: skip


def _mixtral(**settings: Any) -> Any:
    return _mixture(MixtralConfig, **MIXTURE, **settings)


def _phi(**settings: Any) -> Any:
    return _mixture(PhimoeConfig, **MIXTURE, rope_scaling=None, **settings)


def _dbrx() -> Any:
    experts = {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2, "moe_jitter_eps": 0.3}
    attention = {"kv_n_heads": 2, "rope_theta": 1e4, "attn_pdrop": 0.0, "clip_qkv": 8.0}
    return _mixture(
        DbrxConfig, d_model=32, n_heads=4, n_layers=2, max_seq_len=128, resid_pdrop=0.0, emb_pdrop=0.0,
        ffn_config={**experts, "ffn_act_fn": {"name": "silu"}}, attn_config=attention,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (partial(_mixtral, router_jitter_noise=0.3), r"jitter noise is active .*\.jitter_noise=0.3"),
        (_dbrx, r"jitter noise is active .*moe_jitter_eps=0.3"),
        (
            partial(_mixtral, router_jitter_noise=0.3, attention_dropout=0.1),
            r"dropout and jitter noise are active .*\.jitter_noise=0.3",
        ),
    ],
)
def test_jitter_is_named_as_the_cause_and_the_remedy_helps(tmp_path: Path, make: Callable[[], Any], told: str) -> None:
    model, tokenizer = make(), small_model()[1]
    _, play = playing(model, tokenizer)
    usual = {"max_updates": 1, "router_aux_loss_coef": 0.0, **BOUND}
    trainer = trainer_for(tmp_path, model, tokenizer, play, **usual)
    with pytest.raises(RunError, match=rf"Likely cause: {told}.*: trainer\.disable_dropout=true$"):
        trainer.train()
    assert active_dropout(model) and model.training
    trainer_for(tmp_path, model, tokenizer, play, disable_dropout=True, **usual).train()


@pytest.mark.parametrize("fields", [{}, {"disable_dropout": True}], ids=str)
@pytest.mark.parametrize("settings", [{}, {"input_jitter_noise": 0.3}], ids=str)
def test_a_router_that_draws_is_no_dropout(tmp_path: Path, settings: dict[str, float], fields: dict[str, bool]) -> None:
    """Phi draws its experts while it is trained; its `router_jitter_noise` is a threshold, and stays."""
    model, tokenizer = _phi(**settings), small_model()[1]
    _, play = playing(model, tokenizer)
    trainer = trainer_for(tmp_path, model, tokenizer, play, max_updates=1, router_aux_loss_coef=0.0, **fields, **BOUND)
    with pytest.raises(RunError, match=r"Likely cause: this model computes otherwise in training mode.*another model$"):
        trainer.train()
    assert model.model.layers[0].mlp.router.router_jitter_noise == 0.01


class _CountsItself(GPT2LMHeadModel):
    """Takes no position ids, so that padding is counted."""

    def forward(self, input_ids: Any = None, attention_mask: Any = None, **others: Any) -> Any:
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, **others)


def _ends(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    tokens = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    return {"vocab_size": len(tokenizer), **tokens}


def _gpt2(ends: dict[str, Any]) -> Any:
    off = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    return _CountsItself(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **off, **ends))


def _bart(ends: dict[str, Any]) -> Any:
    sizes = {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48}
    kind = {"is_decoder": True, "is_encoder_decoder": False, "forced_eos_token_id": None, "dropout": 0.0}
    return BartForCausalLM(BartConfig(**sizes, **kind, max_position_embeddings=64, **ends))


def _rwkv(ends: dict[str, Any]) -> Any:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32, "intermediate_size": 48}
    return RwkvForCausalLM(RwkvConfig(**sizes, context_length=64, **ends))


@torch.no_grad()
def _sampled_alone(model: Any, pairs: list[tuple[list[int], list[int]]]) -> list[list[float]]:
    """Log-probabilities of answers, each read behind its prompt without padding."""
    found = []
    for prompt, answer in pairs:
        logits = model.eval()(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        found.append(logits.log_softmax(-1)[torch.arange(len(answer)), answer].tolist())
    return found


@pytest.mark.parametrize("make", [_gpt2, _bart, _rwkv])
def test_a_model_that_counts_padding_is_named_and_the_remedy_helps(tmp_path: Path, make: Callable[..., Any]) -> None:
    tokenizer = small_model()[1]
    torch.manual_seed(0)
    model = make(_ends(tokenizer))
    with torch.no_grad():  # wide enough that positions matter
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5.0)
    logprobs = _sampled_alone(model, list(zip(PROMPTS, ANSWERS, strict=True)))
    episodes = tuple(one_step_episodes(ANSWERS, PROMPTS, logprobs))
    played = with_advantages(replace(played_update(*small_model()), episodes=episodes), [1.0, -0.5])
    trainer = trainer_for(tmp_path, model, tokenizer, lambda update: played, max_updates=1, **BOUND)
    told = (
        r"Likely cause: this model takes padding for tokens.*trainer\.per_device_train_batch_size=1.*_multiple_of=null"
    )
    with pytest.raises(RunError, match=told):
        trainer.train()
    alone = {"per_device_train_batch_size": 1, "pad_to_multiple_of": None}
    trainer_for(tmp_path, model, tokenizer, lambda update: played, max_updates=1, **alone, **BOUND).train()


def test_a_fault_of_sharing_is_named_as_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = small_model()
    _, play = playing(model, tokenizer)
    right = Sharing.logprobs

    def wrong(self: Sharing, *rows: Any, entropy: bool) -> Any:
        logprobs, entropies = right(self, *rows, entropy=entropy)
        return logprobs - 0.5, entropies

    monkeypatch.setattr(Sharing, "logprobs", wrong)
    trainer = trainer_for(tmp_path, model, tokenizer, play, max_updates=1, **BOUND)
    with pytest.raises(RunError, match=r"Likely cause: .* equal prompts are read once: algo\.share_prompts=false"):
        trainer.train()


def test_another_precision_is_named_as_the_cause(tmp_path: Path) -> None:
    model, tokenizer = small_model()

    def play(update: int) -> PlayedUpdate:
        with torch.autocast("cpu", torch.bfloat16):
            return played_update(model, tokenizer, update)

    trainer = trainer_for(tmp_path, model, tokenizer, play, max_updates=1, **BOUND)
    with pytest.raises(RunError, match="Likely cause: sampling computes in bfloat16, training does not"):
        trainer.train()


def test_sampling_at_another_temperature_is_found(tmp_path: Path) -> None:
    model, tokenizer = small_model()
    _, play = playing(model, tokenizer)
    trainer = trainer_for(tmp_path, model, tokenizer, play, max_updates=1, temperature=0.5, **BOUND)
    with pytest.raises(RunError, match="log-probability gap"):
        trainer.train()


def test_corrections_for_vllm_are_trl_s_and_change_nothing_where_there_is_nothing_to_correct(tmp_path: Path) -> None:
    """`use_vllm` without vLLM: what TRL adds to the loss, on answers of the trained model itself."""
    gradients = []
    for use_vllm in (False, True):
        model, tokenizer = small_model()
        _, play = playing(model, tokenizer)
        trainer = trainer_for(tmp_path, model, tokenizer, play, use_vllm=use_vllm, **BOUND)
        gradients.append(first_gradient(trainer))
        ratios = [batch.get("importance_sampling_ratio") for part in trainer._parts for batch in part]
        assert all((ratio is not None) == use_vllm for ratio in ratios)
    assert relative_difference(gradients[1], gradients[0]) < 1e-4


def test_bounds_follow_precision_unless_given() -> None:
    assert gap_bound(None, None, exact=True, truncated=False) == EXACT
    assert gap_bound(None, None, exact=False, truncated=False) == ROUNDED
    assert gap_bound(None, None, exact=True, truncated=True) == GapBound(math.inf, math.inf)
    assert gap_bound(0.5, 0.25, exact=True, truncated=True) == GapBound(0.5, 0.25)
    assert gap_bound(0.0, None, exact=True, truncated=False) == GapBound(0.0, EXACT.mean)


@pytest.mark.parametrize("distances", [[0.2] * 10, [2.0, *[0.0] * 40], [math.nan, 0.0]])
def test_either_number_can_fail(distances: list[float]) -> None:
    bound = GapBound(largest=1.0, mean=0.1)

    def check(distances: list[float]) -> None:
        sampled = torch.tensor([distances])
        batch = {"sampling_per_token_logps": sampled, "completion_mask": torch.ones_like(sampled)}
        checked_gap([batch], [torch.zeros_like(sampled)], bound, 7, lambda batches: "this")

    with pytest.raises(RunError, match=r"^update 7: .*cause: this"):
        check(distances)
    check([1.0, *[0.0] * 9])


def _one_row_off(played: PlayedUpdate, number: int, by: float) -> PlayedUpdate:
    """Row `number` was sampled with other log-probabilities than the model has."""
    episodes, seen = list(played.episodes), 0
    for e, episode in enumerate(episodes):
        steps = list(episode.steps)
        for t, step in enumerate(steps):
            if seen == number:
                logprobs = tuple(value + by for value in step.completion.logprobs)
                steps[t] = replace(step, completion=replace(step.completion, logprobs=logprobs))
            seen += 1
        episodes[e] = replace(episode, steps=tuple(steps))
    return replace(played, episodes=tuple(episodes))


@pytest.mark.parametrize("fields", [{"optimizer_steps": 4}, {"optimizer_steps": 3, "num_iterations": 2}], ids=str)
@pytest.mark.parametrize("number", [0, 5, 11, 17])
def test_whichever_step_a_row_belongs_to_its_gap_is_found_before_the_first(
    tmp_path: Path, fields: dict[str, int], number: int
) -> None:
    """And told undiluted: the bound is so wide that the rows of the whole update lie within it."""
    model, tokenizer = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    played = with_advantages(played_update(model, tokenizer), [1.0, -0.5, 0.25])
    rows = step_rows(_one_row_off(played, number, 1.0).trained)
    tokens = sum(len(row.completion_ids) for row in rows)
    diluted = len(rows[number].completion_ids) / tokens
    trainer = trainer_for(
        tmp_path, model, tokenizer, lambda update: _one_row_off(played, number, 1.0), max_updates=1,
        max_logprob_gap=math.inf, mean_logprob_gap=1.5 * diluted, **fields,
    )  # fmt: skip
    with pytest.raises(RunError) as error:
        trainer.train()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    found = re.match(
        r"update 1: .* of optimizer step (\d) of (\d): log-probability gap (\S+) on .* 1 at most .*were not changed",
        str(error.value),
    )
    assert found is not None, str(error.value)
    part = trainer._rows_of_parts[int(found[1]) - 1]
    assert rows[number] in part and int(found[2]) == fields["optimizer_steps"]
    undiluted = len(rows[number].completion_ids) / sum(len(row.completion_ids) for row in part)
    assert float(found[3]) == pytest.approx(undiluted, rel=0.05)


def test_the_pass_of_the_loss_is_compared_too_where_an_update_takes_several_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the log-probabilities that gradients flow through are wrong, not those of the old policy."""
    model, tokenizer = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _, play = playing(model, tokenizer)
    right = Sharing.logprobs

    def wrong(self: Sharing, *rows: Any, entropy: bool) -> Any:
        logprobs, entropies = right(self, *rows, entropy=entropy)
        return logprobs - 0.5 * logprobs.requires_grad, entropies

    monkeypatch.setattr(Sharing, "logprobs", wrong)
    trainer = trainer_for(tmp_path, model, tokenizer, play, max_updates=1, optimizer_steps=2, **BOUND)
    with pytest.raises(RunError, match=r"of optimizer step 1 of 2.* the weights were not changed"):
        trainer.train()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("number", [0, 5, 11, 17])
def test_a_loss_that_is_no_number_says_what_was_stepped_before_it(tmp_path: Path, number: int) -> None:
    model, tokenizer = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    played = with_advantages(played_update(model, tokenizer), [1.0, -0.5, 0.25])
    bad = step_rows(played.trained)[number].episode
    lost = [np.full_like(one, math.nan) if e == bad else one for e, one in enumerate(played.advantages)]
    trainer = trainer_for(
        tmp_path, model, tokenizer, lambda update: replace(played, advantages=tuple(lost)), max_updates=1,
        optimizer_steps=12, num_iterations=2, run_seed=number,
    )  # fmt: skip
    with pytest.raises(NotFinite, match=r"^update 1: loss nan") as error:
        trainer.train()
    same = all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    taken = trainer.state.global_step
    assert same == (taken == 0)
    told = "the weights were not changed" if same else f"not taken, but {taken} of the update w"
    assert told in str(error.value)
