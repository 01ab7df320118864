"""Micro-batches as TRL's loss takes them: how rows come in, what the model reads, and by what the loss is divided.

Knows the names of TRL's tensors and its normaliser. Knows nothing about how rows are cut, sampled or trained on.
Shape suffix: N rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from .shared_logprobs import Sharing

Batch = dict[str, Any]
"""One micro-batch as TRL's loss takes it: padded tensors of shape (rows, width)."""


def model_inputs(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Ids and attention mask of prompts and completions side by side, shape (N, T), and the completions' width."""
    ids_NT = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask_NT = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    return ids_NT, mask_NT, batch["completion_ids"].shape[1]


def work(batch: Batch, sharing: Sharing | None) -> tuple[int, int]:
    """Tokens that one pass over a micro-batch reads, padding included, and how many of them are padding."""
    ids_NT, mask_NT, width = model_inputs(batch)
    if sharing:
        return sharing.work(ids_NT, mask_NT, width)
    return ids_NT.numel(), int((mask_NT == 0).sum())


class Read(Protocol):
    """One pass over a micro-batch without gradients."""

    def __call__(self, batch: Batch, *, shared: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and entropies of the completions, shape (N, T), with equal prompts shared or not."""


def loss_mask(batch: Mapping[str, Any]) -> torch.Tensor:
    """Of the tokens that a loss is made of, shape (N, T)."""
    mask: torch.Tensor = batch["completion_mask"]
    return (mask * batch["tool_mask"] if "tool_mask" in batch else mask).bool()


def entropies(parts: Sequence[Sequence[Batch]], read: Read) -> np.ndarray:
    """The entropy (nats) of every completion token of the micro-batches of these parts; shape (tokens,)."""
    batches = [batch for part in parts for batch in part]
    return np.concatenate([read(batch)[1][loss_mask(batch)].float().cpu().numpy() for batch in batches])


def normalise(step: Sequence[Batch], tokens: int, step_tokens: float, device: torch.device) -> None:
    """Give the micro-batches of one optimizer step what TRL divides their losses by: `tokens` is the whole update's,
    `step_tokens` those of this step, of one rank on average.

    See the batching contract of `trainer.MSGRPOTrainer`.
    """
    for batch in step:
        batch["accumulation"] = step_tokens / batch["tokens"] if batch["tokens"] else 1.0
        exact = torch.float64 if device.type == "cpu" else None
        batch["num_items_in_batch"] = torch.tensor(tokens / batch["accumulation"], dtype=exact).to(device)


def rows_in_hand(prompts: list[str], trainer: Any) -> dict[str, Any]:
    """TRL's `rollout_func`: hands over the trainer's rows of the current micro-batch, as they were sampled."""
    rows = trainer.rows_in_hand
    return {
        "prompt_ids": [list(row.prompt_ids) for row in rows],
        "completion_ids": [list(row.completion_ids) for row in rows],
        "logprobs": [list(row.logprobs) for row in rows],
    }


def no_reward(prompts: list[Any], **_: Any) -> list[float | None]:
    """TRL asks for a reward function; advantages are ours, so its answer is never used."""
    return [0.0] * len(prompts)
