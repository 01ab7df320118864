"""TRL's own GRPOTrainer on eight given rows in two groups, to hold ours against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

PROMPTS = [[3, 14, 15, 16, 5, 4]] * 4 + [[3, 15, 15, 14, 15, 5, 4]] * 4
ANSWERS = [[6, 9, 7, 5], [6, 10, 7, 5], [6, 5], [5], [6, 11, 7, 5], [6, 8, 7, 10, 11, 5], [9, 9, 5], [6, 9, 7, 5]]
REWARDS = [1.0, 0.0, 0.0, -1.0, 0.25, 0.5, 0.0, 1.0]


class PlainTrainer(GRPOTrainer):
    """GRPOTrainer as it is, but in the order in which its rows were given."""

    def first_batch(self) -> dict[str, Any]:
        self.model.train()
        self.current_gradient_accumulation_steps = 1
        return self._generate_and_score_completions([{"prompt": ""} for _ in PROMPTS])


def plain_trainer(
    folder: Path,
    model: torch.nn.Module,
    tokenizer: Any,
    answers: Sequence[Sequence[int]] = ANSWERS,
    logprobs: Sequence[Sequence[float]] | None = None,
    **arguments: Any,
) -> PlainTrainer:
    def rollout(prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        return {"prompt_ids": PROMPTS, "completion_ids": answers, "logprobs": logprobs}

    def reward(prompts: list[str], **_: Any) -> list[float]:
        return REWARDS

    settings = {
        "num_generations": 4, "per_device_train_batch_size": 8, "bf16": False, "gradient_checkpointing": False,
        "use_cpu": True, "max_completion_length": 6, "report_to": "none", "beta": 0.0, **arguments,
    }  # fmt: skip
    return PlainTrainer(
        model=model, reward_funcs=reward, args=GRPOConfig(output_dir=str(folder), **settings),
        train_dataset=Dataset.from_dict({"prompt": ["a", "b"]}), processing_class=tokenizer, rollout_func=rollout,
    )  # fmt: skip


def gradient_of(model: torch.nn.Module) -> torch.Tensor:
    """Of all parameters, in one vector; zeros where there is none."""
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    return torch.cat([gradient.flatten() for gradient in gradients]).clone()
