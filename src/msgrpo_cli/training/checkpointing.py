"""TRL's trainer as far as checkpoints go: what is written when a run saves, by which rank, how it is read back, and how
what is trained makes room for one of them at the end.

Knows TRL's hooks for saving and loading, and ranks. Knows nothing about rows, losses, games or where a checkpoint lies.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from trl import GRPOTrainer

from msgrpo_cli.common.memory import give_back_freed

from .display import OnPhase
from .parallel.ranks import Ranks
from .settings import MSGRPOConfig


class CheckpointingTrainer(GRPOTrainer):
    """GRPOTrainer that hands every checkpoint it wrote to `on_checkpoint(directory, update)`, on the first rank."""

    args: MSGRPOConfig
    ranks: Ranks
    on_checkpoint: Callable[[Path, int], None]
    on_phase: OnPhase
    _torch_generators: list[torch.Tensor]
    """As they stood before the present update was played."""

    @property
    def update(self) -> int:
        """Number of finished updates."""
        return int(self.state.global_step) // self.args.steps_per_update

    def try_optimizer(self) -> None:
        """Build and save optimizer and schedule, so that what they refuse is refused before anything is played.

        `train` builds them anew, with the parameters as they are then.
        """
        self.create_optimizer_and_scheduler(self.args.max_steps)
        assert self.optimizer is not None and self.lr_scheduler is not None
        torch.save([self.optimizer.state_dict(), self.lr_scheduler.state_dict()], BytesIO())
        self.optimizer = self.lr_scheduler = None

    def give_back(self) -> None:
        """Leave the models without weights, gradients and optimizer numbers: training is over, and the best checkpoint,
        which is read at the end of a run, needs their room. On several ranks each gives back its own."""
        assert self.model is not None
        self.model_wrapped = self.model  # torch's wrapper has buckets as large as the gradients
        if self.optimizer is not None:
            self.optimizer.state.clear()
        for model in (self.model, self.ref_model):
            for tensor in () if model is None else (*model.parameters(), *model.buffers()):
                tensor.grad = None
                _empty(tensor)
        self.accelerator.free_memory()  # its own references, and what torch keeps of a GPU
        give_back_freed()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """The only change: a whole model is read as everywhere else. TRL goes by the names in the file, and passes over
        those that are others in the model, such as the experts of most mixtures."""
        if isinstance(self.model, PeftModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        assert isinstance(self.model, PreTrainedModel)
        stored = type(self.model).from_pretrained(resume_from_checkpoint, dtype=self.model.dtype, use_safetensors=True)
        self.model.load_state_dict(stored.state_dict())

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """The only changes: what TRL wrote is handed to `on_checkpoint`, and the first rank alone writes, but for the
        state of each rank's random generators."""
        self.on_phase("checkpoint", 0, 0, safe=False)
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        self._write_own_part(folder)
        if self.ranks.first:
            super()._save_checkpoint(model, trial)  # type: ignore[no-untyped-call]
            if not self.ranks.alone:
                shutil.copyfile(folder / "rng_state_0.pth", folder / "rng_state.pth")  # for one process, later
            self.on_checkpoint(folder, self.update)

    def _write_own_part(self, folder: Path) -> None:
        """What every rank writes of a checkpoint: of several, the state of its random generators."""
        if not self.ranks.alone:
            self.ranks.gather(partial(self._save_rng_state, str(folder)))

    def store_flos(self) -> None:
        """The only change: several ranks count no operations, for which all of them would have to come here."""
        if self.ranks.alone:
            super().store_flos()

    def save_finished_update(self) -> None:
        """Save the state at the end of the last update, in whose successor no optimizer step was taken yet."""
        if int(self.state.global_step) % self.args.steps_per_update:
            raise RuntimeError("optimizer steps of an unfinished update were taken")
        if self._torch_generators:  # dropout may have used them since
            torch.set_rng_state(self._torch_generators[0])
            torch.cuda.set_rng_state_all(self._torch_generators[1:])
        assert self.model is not None
        self._save_checkpoint(self.model, trial=None)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Cards are written by `on_checkpoint`, which knows what was trained on."""


def _empty(tensor: torch.Tensor) -> None:
    if isinstance(tensor, DTensor):  # FSDP has views of its own
        tensor.to_local().untyped_storage().resize_(0)
    else:
        tensor.data = tensor.data.new_empty(0)
