"""The trainer of a model whose weights are shared out among ranks.

Knows which of the trainer's hooks meet weights as a whole. Knows nothing about how they are shared out: `sharding`
does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from msgrpo_cli.models.adapters import policy_of

from .parallel.sharding import adapter_weights, load_optimizer, save_optimizer, share_out, take_weights, whole_weights
from .trainer import MSGRPOTrainer


class ShardedTrainer(MSGRPOTrainer):
    """MSGRPOTrainer with weights, gradients and optimizer numbers shared out (FSDP2).

    torch gathers what is read by the model's own `forward` alone, the head included; so rows that begin alike are read
    packed, in one pass of the model for each micro-batch, as many as on every other rank. A checkpoint holds whole
    weights, as one process writes them, and the optimizer's numbers in parts, one of each rank.
    """

    _whole_weights: dict[str, Any] | None = None

    def _make_ready(self, model: PreTrainedModel | PeftModel) -> bool:
        inner = policy_of(model)
        self._bare_class = type(inner)
        share_out(inner, torch.bfloat16 if self.args.bf16 else None)
        vars(model)["_is_accelerate_prepared"] = True  # accelerate would wrap it once more
        return True

    def _compare_weights(self) -> None:
        """No two ranks have the same."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """The only change: every rank takes its part."""
        if isinstance(self.model, PeftModel):
            take_weights(self.model, adapter_weights(Path(resume_from_checkpoint)))
            return
        assert isinstance(self.model, PreTrainedModel)
        stored = self._bare_class.from_pretrained(resume_from_checkpoint, dtype=self.model.dtype, use_safetensors=True)
        take_weights(self.model, stored.state_dict())

    def _write_own_part(self, folder: Path) -> None:
        super()._write_own_part(folder)
        assert isinstance(self.model, PreTrainedModel | PeftModel)
        self._whole_weights = whole_weights(self.model)
        save_optimizer(self.inner, self._bare_optimizer, folder, self.ranks.group)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """The only change: weights are saved whole."""
        super()._save(output_dir, self._whole_weights)
        self._whole_weights = None

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """The only change: each rank has written its part of the optimizer's numbers."""
        assert self.lr_scheduler is not None
        torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """The only change: each rank reads its part."""
        if checkpoint is None:
            return
        assert self.lr_scheduler is not None
        load_optimizer(self.inner, self._bare_optimizer, Path(checkpoint), self.ranks.group)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / "scheduler.pt", weights_only=True))

    @property
    def _bare_optimizer(self) -> torch.optim.Optimizer:
        optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        assert isinstance(optimizer, torch.optim.Optimizer)
        return optimizer
