"""What the trainer relies on in TRL and transformers: private hooks, so that an upgrade fails loudly."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from transformers import Trainer
from trl import GRPOTrainer

from support.parts import small_model, trainer_for, uneven
from support.zoo import ZOO

SIGNATURES = {
    (GRPOTrainer, "_generate_and_score_completions"): ["self", "inputs"],
    (GRPOTrainer, "_prepare_inputs"): ["self", "generation_batch"],
    (GRPOTrainer, "training_step"): ["self", "model", "inputs", "num_items_in_batch"],
    (GRPOTrainer, "log"): ["self", "logs", "start_time"],
    (GRPOTrainer, "_save_checkpoint"): ["self", "model", "trial"],
    (Trainer, "_load_from_checkpoint"): ["self", "resume_from_checkpoint", "model"],
    (GRPOTrainer, "get_high_entropy_mask"): ["self", "entropies", "mask", "threshold"],
    (Trainer, "_get_grad_norm"): ["self", "model", "grad_norm"],
    (Trainer, "get_train_dataloader"): ["self"],
}


def test_the_tested_series() -> None:
    assert version("trl").startswith("1.16.")
    assert version("transformers").startswith("5.")


@pytest.mark.parametrize(("owner", "name"), list(SIGNATURES))
def test_hooks_keep_their_signatures(owner: type, name: str) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == SIGNATURES[owner, name]


@pytest.mark.parametrize(
    "line",
    [
        'normalizer = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes',
        "normalizer = normalizer * self.current_gradient_accumulation_steps / self.args.steps_per_generation",
        "(entropies * effective_mask).sum() / effective_mask.sum().clamp(min=1.0) / accumulation_factor",
        "log_importance_weights = log_ratio",
    ],
)
def test_the_loss_is_normalised_as_the_batching_contract_says(line: str) -> None:
    assert line in inspect.getsource(GRPOTrainer._compute_loss)


def test_old_log_probabilities_are_computed_when_one_generation_serves_several_steps() -> None:
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert "if self.args.gradient_accumulation_steps % generate_every != 0" in source
    assert "output = self.rollout_func(prompts, self)" in inspect.getsource(GRPOTrainer._generate)


def test_zero_grad_leaves_no_gradients_so_that_a_skipped_step_moves_nothing() -> None:
    model, _ = small_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.5)
    before = model.lm_head.weight.clone()
    model.zero_grad()
    optimizer.step()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(before, model.lm_head.weight)


def test_the_experts_of_a_mixture_come_back_from_a_checkpoint(tmp_path: Path) -> None:
    """In the file they have other names than in the model, and transformers' own loading passes over such names."""
    model, tokenizer = ZOO["mixtral"].made()
    model.save_pretrained(tmp_path / "checkpoint")
    trainer = trainer_for(tmp_path, model, tokenizer, lambda update: uneven())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    trainer._load_from_checkpoint(str(tmp_path / "checkpoint"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
