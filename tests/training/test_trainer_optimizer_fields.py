"""Fields of GRPOConfig that shape the optimizer step: after three updates the weights are plain TRL's."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from msgrpo_cli.algo.episode_sampling import Draw
from msgrpo_cli.rollout.collect import PlayedUpdate
from support.groups import group_advantages
from support.parts import one_step_episodes, shared, small_model, trainer_for
from support.plain_trl import ANSWERS, PROMPTS, REWARDS, plain_trainer

USUAL = {"learning_rate": 0.01, "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "optim": "adamw_torch"}


@pytest.mark.parametrize(
    "fields",
    [
        {"adam_beta1": 0.5, "adam_beta2": 0.9, "adam_epsilon": 1e-3},
        {"weight_decay": 0.3},
        {"max_grad_norm": 0.01},
        {"optim": "adafactor"},
        {"optim": "rmsprop", "optim_args": "alpha=0.5"},
        {"optim": "adamw_torch_fused"},
        {"lr_scheduler_type": "linear", "warmup_steps": 2},
        {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": 2.0}},
        {"num_iterations": 2},
    ],
    ids=lambda fields: ",".join(fields),
)
def test_the_weights_after_three_updates_are_trl_s(tmp_path: Path, fields: dict[str, Any]) -> None:
    model, tokenizer = small_model()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    logprobs = [[-0.5] * len(answer) for answer in ANSWERS]
    chosen = {**USUAL, **fields}
    steps = 3 * int(chosen.get("num_iterations", 1))
    plain_model = copy.deepcopy(model)
    plain = plain_trainer(
        tmp_path / "plain", plain_model, tokenizer, ANSWERS, logprobs, loss_type="dapo", max_steps=steps,
        save_strategy="no", logging_strategy="no", disable_tqdm=True, **chosen,
    )  # fmt: skip
    plain.train()

    advantages = group_advantages(np.array(REWARDS).reshape(2, 4)).reshape(-1)
    episodes = one_step_episodes(ANSWERS, PROMPTS, logprobs)
    everything = Draw(np.ones(8, dtype=bool), np.ones(8))

    def play(update: int) -> PlayedUpdate:
        return PlayedUpdate(update, tuple(episodes), shared(episodes, advantages), everything, 0.0, 1.0)

    trainer_for(tmp_path / "ours", model, tokenizer, play, max_updates=3, **chosen).train()
    moved = max(float((old - new).abs().max()) for old, new in zip(before, model.parameters(), strict=True))
    apart = max(float((a - b).abs().max()) for a, b in zip(plain_model.parameters(), model.parameters(), strict=True))
    assert moved > 1e-4
    assert apart < 1e-3 * moved, (apart, moved)


class _Weights(TrainerCallback):
    """The weights after every optimizer step."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model, self.kept = model, [self._now(model)]

    @staticmethod
    def _now(model: torch.nn.Module) -> torch.Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        self.kept.append(self._now(self.model))
        return control

    def moved(self) -> list[bool]:
        return [not torch.equal(one, next_one) for one, next_one in zip(self.kept, self.kept[1:], strict=False)]


@pytest.mark.parametrize(
    "fields",
    [
        {"weight_decay": 0.3},
        {"optim": "sgd", "optim_args": "momentum=0.9"},
        {"optim": "adafactor", "weight_decay": 0.1},
        {"beta": 0.3},
        {"entropy_coef": 0.1},
        {"num_iterations": 2},
        {"lr_scheduler_type": "linear"},
    ],
    ids=lambda fields: ",".join(fields),
)
def test_an_optimizer_step_without_any_advantage_moves_nothing_and_counts(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    """After an update that all steps learn from, one whose only advantage is that of a single row."""
    model, tokenizer = small_model()
    logprobs = [[-0.5] * len(answer) for answer in ANSWERS]
    episodes = one_step_episodes(ANSWERS, PROMPTS, logprobs)
    everything = Draw(np.ones(8, dtype=bool), np.ones(8))
    chosen = {**USUAL, **fields}
    passes = int(chosen.get("num_iterations", 1))

    def play(update: int) -> PlayedUpdate:
        advantages = np.linspace(-1.0, 2.0, 8) if update != 2 else np.where(np.arange(8) == 3, 1.0, 0.0)
        return PlayedUpdate(update, tuple(episodes), shared(episodes, advantages), everything, 0.0, 1.0)

    reference = small_model(seed=5)[0] if fields.get("beta") else None
    trainer = trainer_for(tmp_path, model, tokenizer, play, reference, max_updates=3, optimizer_steps=4, **chosen)
    weights, rates = _Weights(model), []
    trainer.add_callback(weights)
    stepped = trainer.figures.__class__.stepped

    def noted(self: Any, loss: float, learning_rate: float, *, seconds: float) -> None:
        rates.append(learning_rate)
        stepped(self, loss, learning_rate, seconds=seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.figures.__class__, "stepped", noted)
        trainer.train()
    moved = weights.moved()
    assert len(moved) == trainer.state.global_step == 12 * passes
    assert all(moved[: 4 * passes]) and all(moved[8 * passes :])
    assert sum(moved[4 * passes : 8 * passes]) == passes, "the part with the row that has an advantage, in every pass"
    if "lr_scheduler_type" in fields:
        assert len(set(rates)) == 12, "the schedule goes on by steps, taken or not"
