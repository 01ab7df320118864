"""The trainer's settings: TRL's GRPOConfig, handed through, with the fields that the batching contract needs.

Knows field names of TRL. Knows nothing about games, Hydra or files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from trl import GRPOConfig

from msgrpo_cli.algo.batching import LengthNormalization


@dataclass
class MSGRPOConfig(GRPOConfig):
    """GRPOConfig whose batching fields are derived, never given.

    `per_device_train_batch_size` as given is the most rows of a micro-batch. One optimizer step is one step of TRL's
    loop (`gradient_accumulation_steps` 1; micro-batches live inside it), and one generation serves
    `optimizer_steps` of them, `num_iterations` times over.
    """

    max_updates: int = field(default=1, metadata={"help": "Length of the run, in updates."})
    optimizer_steps: int = field(default=1, metadata={"help": "Optimizer steps per pass over an update's rows."})
    length_normalization: LengthNormalization = field(default="token", metadata={"help": "How rows weigh."})
    guard_grad_norm: float | None = field(default=None, metadata={"help": "Larger gradients are withheld."})
    guard_log_ratio: float | None = field(default=None, metadata={"help": "Larger log-ratios are withheld."})
    run_seed: int = field(default=0, metadata={"help": "Seed that deals rows into optimizer steps."})
    share_prompts: bool = field(default=True, metadata={"help": "Equal prompts and answers are computed once."})
    run_config: dict[str, Any] = field(default_factory=dict, metadata={"help": "All of the config, for trackers."})
    max_logprob_gap: float = field(default=math.inf, metadata={"help": "Bound on one token's gap, first update."})
    mean_logprob_gap: float = field(default=math.inf, metadata={"help": "Bound on the mean gap, first update."})

    def __post_init__(self) -> None:
        self.rows_per_micro_batch = self.per_device_train_batch_size
        self.loss_type = "dapo"  # its normaliser counts tokens of the whole update; row_factors expresses the rest
        self.gradient_accumulation_steps = 1
        self.steps_per_generation = self.optimizer_steps
        # TRL wants at least two rows of a group in a generation batch; groups are ours, so any pair will do.
        self.per_device_train_batch_size = max(2, self.rows_per_micro_batch)
        self.num_generations = 2 if self.per_device_train_batch_size % 2 == 0 else self.per_device_train_batch_size
        self.max_steps = self.max_updates * self.steps_per_update
        self.logging_strategy = "no"
        self.save_strategy = "no"
        self.eval_strategy = "no"
        self.logging_nan_inf_filter = False
        self.remove_unused_columns = False
        self.disable_tqdm = True
        super().__post_init__()  # type: ignore[no-untyped-call]

    @property
    def steps_per_update(self) -> int:
        """Optimizer steps of one update, all passes together."""
        return self.optimizer_steps * self.num_iterations
