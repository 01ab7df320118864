"""Answers of other weights than those that are trained end a run before an optimizer step, whichever update it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from msgrpo_cli.errors import RunError
from msgrpo_cli.rollout.collect import PlayedUpdate
from msgrpo_cli.training.gap import EXACT, ROUNDED, Far, GapBound, check_gap, gap_bound
from msgrpo_cli.training.shared_logprobs import Sharing
from support.parts import first_gradient, played_update, relative_difference, small_model, trainer_for
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


@pytest.mark.parametrize(("mean", "largest"), [(0.2, 0.3), (0.05, 2.0), (math.nan, 0.1), (0.05, math.nan)])
def test_either_number_can_fail(mean: float, largest: float) -> None:
    with pytest.raises(RunError, match="update 7"):
        check_gap(Far(10 * mean, largest, 10), GapBound(largest=1.0, mean=0.1), 7, lambda: "this")
    check_gap(Far(1.0, 1.0, 10), GapBound(largest=1.0, mean=0.1), 7, lambda: "this")
