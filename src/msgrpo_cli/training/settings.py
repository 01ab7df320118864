"""From a config to what every update does, and to TRL's GRPOConfig with the fields that the batching contract needs.

Knows config sections and field names of TRL. Knows nothing about models in memory, games or files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel
from trl import GRPOConfig

from msgrpo_cli.algo.batching import LengthNormalization
from msgrpo_cli.common.text import one_line
from msgrpo_cli.config.engines import trainer_settings
from msgrpo_cli.config.saved import dumped
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import UsageError
from msgrpo_cli.models.precision import autocast_dtype
from msgrpo_cli.rollout.collect import UpdateRules
from msgrpo_cli.rollout.seating import Seating
from msgrpo_cli.runs.directory import Run

from .loss.gap import gap_bound


def update_rules(config: RunConfig) -> UpdateRules:
    """What every update of the run does."""
    algo = config.algo
    return UpdateRules(
        seed=config.seed,
        groups_per_update=algo.groups_per_update,
        group_size=algo.group_size,
        credit=algo.credit,
        credit_rules=algo.credit_rules,
        episode_sampling=algo.episode_sampling,
        sample_fraction=algo.fraction,
        sampling_exponent=algo.exponent,
        sampling_scope=algo.sampling_scope,
        sampling_correction=algo.sampling_correction,
        most_groups=algo.groups_at_most,
        seating=Seating(tuple(seats), config.selfplay.rotate) if (seats := config.selfplay.seats) else None,
    )


def training_arguments(config: RunConfig, run: Run, device: torch.device) -> MSGRPOConfig:
    """TRL's fields as the config gives them, and ours."""
    given: Mapping[str, Any] = config.trainer
    fields = {
        "project": "msgrpo",  # of trackers; the run's name there is that of its directory
        "run_name": run.path.name,
        **given,
        "bf16": autocast_dtype(given, device) is torch.bfloat16,
        "output_dir": str(run.checkpoints / ".partial"),
        "use_cpu": device.type == "cpu",
        "seed": config.seed % 2**32,
        "temperature": config.rollout.temperature,
        "max_completion_length": config.rollout.max_new_tokens,
        "max_updates": config.max_updates,
        "guard_grad_norm": config.guard.grad_norm,
        "guard_log_ratio": config.guard.log_ratio,
        "optimizer_steps": config.algo.optimizer_steps,
        "length_normalization": config.algo.length_normalization,
        "share_prompts": config.algo.share_prompts,
        "run_seed": config.seed,
        "run_config": dumped(config),
        # Every weight that is trained has its part in every loss.
        **({} if config.parallel.name == "none" else {"ddp_find_unused_parameters": False}),
        **trainer_settings(config.engine.name),
    }
    with refusing():
        return MSGRPOConfig(**fields)


@contextmanager
def refusing() -> Iterator[None]:
    """What TRL, transformers or torch themselves refuse of the trainer block, before anything is played."""
    try:
        yield
    except (ValueError, TypeError, ImportError, KeyError, AssertionError, FileNotFoundError) as error:
        raise UsageError(f"trainer: {one_line(error)}") from error


def bound_logprob_gap(arguments: MSGRPOConfig, config: RunConfig, model: PreTrainedModel) -> None:
    """How far sampling may be from training before it is a fault; vLLM and bitsandbytes have kernels of their own."""
    rounded = arguments.use_vllm or arguments.bf16 or arguments.fp16 or config.lora.quantization is not None
    exact = not rounded and model.dtype == torch.float32
    engine, truncated = config.engine, config.rollout.truncated
    bound = gap_bound(engine.max_logprob_gap, engine.mean_logprob_gap, exact=exact, truncated=truncated)
    arguments.max_logprob_gap, arguments.mean_logprob_gap = bound.largest, bound.mean


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
    max_logprob_gap: float = field(default=math.inf, metadata={"help": "Bound on one token's gap."})
    mean_logprob_gap: float = field(default=math.inf, metadata={"help": "Bound on the mean gap."})

    def __post_init__(self) -> None:
        self.rows_per_micro_batch = self.per_device_train_batch_size
        self.loss_type = "dapo"  # its normaliser counts tokens of the whole update; weighed_rows expresses the rest
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
