"""The MS-GRPO trainer: TRL's GRPOTrainer, fed with step rows of drawn episodes.

Knows rows, tensors and TRL's hooks. Knows nothing about games, prompts, Hydra or the run directory.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from datasets import Dataset
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head, disable_dropout_in_model

from .adapters import policy_of
from .failures import NotFinite
from .freshness import GapBound, check_gap
from .msgrpo_config import MSGRPOConfig
from .plain_cache import has_plain_cache
from .rows import Row, deal, micro_batches, row_factors, step_rows
from .seeding import generator
from .shared_prompts import SharedRows, packed_logprobs, shared_logprobs, takes_masks
from .update import PlayedUpdate, rollout_metrics

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # rollout_func is experimental; a contract test watches it


class OnPhase(Protocol):
    """Told the name of a phase and how much of it is finished."""

    def __call__(self, name: str, finished: int, total: int, *, safe: bool) -> None: ...


_COUNTED = ("rows", "tokens_prompt", "tokens_completion", "tokens_read", "tokens_padding")

Batch = dict[str, Any]
"""One micro-batch as TRL's loss takes it: padded tensors of shape (rows, width)."""


class MSGRPOTrainer(GRPOTrainer):
    """GRPOTrainer whose rows are the steps of played episodes. The changes with respect to GRPOTrainer are:

    * `_generate_and_score_completions` is called once per micro-batch with rows that are already sampled (through
      `rollout_func`); padding, old and reference log-probabilities and off-policy corrections are TRL's, only
      `advantages` and `num_items_in_batch` are replaced.
    * `training_step` runs TRL's `training_step` on every micro-batch of one optimizer step.
    * the reference model is the one that is handed in, or the model without its adapter where it has one.

    Batching contract. One update is played, drawn and cut once, then used for every optimizer step of every pass:

        update u ── play ── draw ──  N rows (steps of drawn episodes, each exactly once)
                                     │  deal: optimizer_steps parts (random where more than one)
              optimizer step 0 ──────┼──────── optimizer step 1 ...      one step of TRL's loop each
              ├ micro-batch 0: at most rows_per_micro_batch rows of like length, padded to its own width
              ├ micro-batch 1 ...
              └ backward on each, gradients add up, then one optimizer.step()

    TRL's `dapo` loss divides the sum over tokens by num_items_in_batch * current_gradient_accumulation_steps /
    steps_per_generation, and the entropy bonus is a micro-batch mean divided by current_gradient_accumulation_steps.
    So for a micro-batch with t of the t_step tokens of its optimizer step, and T tokens in the update, the
    accumulation factor is t_step / t and num_items_in_batch is T t / t_step: the policy term and the KL term are then
    divided by T / optimizer_steps, and the entropy bonus is the token mean of the optimizer step, whatever the
    micro-batches. Rows weigh through `rows.row_factors`. An update without drawn rows does no backward pass: the
    gradients stay None and the optimizer moves nothing, momentum and weight decay included.
    """

    args: MSGRPOConfig

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        args: MSGRPOConfig,
        tokenizer: PreTrainedTokenizerBase,
        play: Callable[[int], PlayedUpdate],
        on_checkpoint: Callable[[Path, int], None] = lambda partial, update: None,
        reference: PreTrainedModel | None = None,
        callbacks: Sequence[TrainerCallback] = (),
        on_phase: OnPhase = lambda name, finished, total, *, safe: None,
    ) -> None:
        """`play(update)` plays update number `update` (from 1).

        `on_checkpoint(directory, update)` gets every checkpoint after TRL wrote it under `args.output_dir`, and moves
        it to where it belongs. `reference` is needed where `args.beta` > 0 and a whole model is trained. `on_phase` is
        told where an update stands; where it is `safe`, it may raise to leave, for no weight has been changed since
        the last update.
        """
        beta, args.beta = args.beta, 0.0  # TRL would build its own reference from the model's path
        use_vllm, args.use_vllm = args.use_vllm, False  # TRL would start vLLM for micro-batches; the policy's does
        super().__init__(
            model=model,
            reward_funcs=[_no_reward],
            args=args,
            train_dataset=Dataset.from_dict({"prompt": [""]}),
            processing_class=tokenizer,
            rollout_func=_rows_in_hand,
            callbacks=list(callbacks),
        )
        args.beta = self.beta = beta
        args.use_vllm = self.use_vllm = use_vllm  # corrects for what vLLM computes differently
        if beta and not isinstance(model, PeftModel):  # TRL switches an adapter off for the reference
            if reference is None:
                raise ValueError("beta > 0 needs a reference model")
            self.ref_model = self._prepare_reference(reference)
        self.num_generations = 1  # to TRL every row is a group of its own; the real groups are in PlayedUpdate
        self.play = play
        self.on_checkpoint = on_checkpoint
        self.on_phase = on_phase
        self.rows_in_hand: list[Row] = []
        self.played: PlayedUpdate | None = None
        self._parts: list[list[Batch]] = []
        self._rows_of_parts: list[list[Row]] = []
        self._torch_generators: list[torch.Tensor] = []
        self._seen_logps: torch.Tensor | None = None
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._largest_gap = 0.0
        self._largest_log_ratio = 0.0
        self._gap_checked = False

    @property
    def update(self) -> int:
        """Number of finished updates."""
        return int(self.state.global_step) // self.args.steps_per_update

    @property
    def largest_micro_batch(self) -> int:
        """Rows, distinct ones where they are shared, of the largest micro-batch of the present update."""
        sizes = [batch["size"] for part in self._parts for batch in part]
        return max(sizes, default=self._size(self.rows_in_hand) or self.args.rows_per_micro_batch)

    def _size(self, rows: Sequence[Row]) -> int:
        """How many rows the model reads."""
        return len({(row.prompt_ids, row.completion_ids) for row in rows}) if self.shares_prompts else len(rows)

    def try_optimizer(self) -> None:
        """Build optimizer and schedule, so that settings that they refuse are refused before anything is played.

        `train` builds them anew, with the parameters as they are then.
        """
        self.create_optimizer_and_scheduler(self.args.max_steps)
        self.optimizer = self.lr_scheduler = None

    # Data

    def get_train_dataloader(self) -> DataLoader[Any]:
        """One empty batch per optimizer step: all data come from playing."""
        return DataLoader([{}] * self.args.max_steps, batch_size=1, collate_fn=lambda batch: batch[0])  # type: ignore[arg-type]

    def _prepare_inputs(self, generation_batch: Batch) -> Batch:
        """Micro-batches are prepared when their update is played."""
        return generation_batch

    def _play_update(self) -> None:
        began = time.perf_counter()
        self._sums.clear()
        self._largest_gap = 0.0
        self.played = self.play(self.update + 1)
        rows = step_rows(self.played.trained)
        factors = row_factors(rows, self.args.length_normalization, self.args.max_completion_length or 1)
        tokens = sum(len(row.completion_ids) for row in rows)
        rng = generator((self.args.run_seed, self.update + 1, "deal"))
        self._sums["perf/seconds_rollout"] = time.perf_counter() - began
        self._parts, self._rows_of_parts = [], []
        for part in deal(len(rows), self.args.optimizer_steps, rng):
            self.on_phase("scoring", len(self._parts), self.args.optimizer_steps, safe=True)
            cut = micro_batches(part, rows, self.args.rows_per_micro_batch, shared=self.shares_prompts)
            self._rows_of_parts.append([rows[i] for i in part])
            self._parts.append(
                [self._batch([rows[i] for i in numbers], [factors[i] for i in numbers]) for numbers in cut]
            )
            step_tokens = sum(batch["tokens"] for batch in self._parts[-1])
            for batch in self._parts[-1]:
                batch["accumulation"] = step_tokens / batch["tokens"]
                batch["num_items_in_batch"] = torch.tensor(
                    tokens / batch["accumulation"], dtype=torch.float64 if self.args.device.type == "cpu" else None
                ).to(self.args.device)
        self._sums["rows"] = len(rows)
        self._sums["tokens_prompt"] = sum(len(row.prompt_ids) for row in rows)
        self._sums["tokens_completion"] = tokens
        self._sums["tokens_read"] = sum(batch["read"] for part in self._parts for batch in part)
        self._sums["tokens_padding"] = sum(batch["padding"] for part in self._parts for batch in part)
        self._sums["perf/seconds_scoring"] = time.perf_counter() - began - self._sums["perf/seconds_rollout"]

    def _batch(self, rows: list[Row], factors: Sequence[float]) -> Batch:
        """Rows as TRL's tensors, old and reference log-probabilities included where they are needed."""
        self.rows_in_hand = rows
        self._last_loaded_step = self.state.global_step  # the policy's generator pushed the weights before it played
        assert self.model is not None
        self.model.train()
        batch: Batch = self._generate_and_score_completions([{"prompt": ""} for _ in rows])
        weighed = [row.advantage * factor for row, factor in zip(rows, factors, strict=True)]
        batch["advantages"] = torch.tensor(weighed, dtype=torch.float32, device=self.args.device)
        batch["tokens"] = sum(len(row.completion_ids) for row in rows)
        batch["size"] = self._size(rows)
        batch["read"], batch["padding"] = self._work_of(batch)
        return batch

    # One optimizer step

    def training_step(self, model: torch.nn.Module, inputs: Batch, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward on every micro-batch of this optimizer step; returns the sum of their losses."""
        within = int(self.state.global_step) % self.args.steps_per_update
        if within == 0:
            self._torch_generators = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
            self._play_update()
        began = time.perf_counter()
        batches = self._parts[within % self.args.optimizer_steps]
        total = torch.zeros((), device=self.args.device)
        self._largest_log_ratio = 0.0
        model.train()
        for number, batch in enumerate(batches):
            self.on_phase("update", number, len(batches), safe=within == 0)
            last = batch is batches[-1]
            self.accelerator.gradient_state._set_sync_gradients(last)
            self.current_gradient_accumulation_steps = batch["accumulation"]
            if last:
                total += super().training_step(model, batch, num_items_in_batch)  # type: ignore[no-untyped-call]
            else:
                with self.accelerator.no_sync(model):
                    total += super().training_step(model, batch, num_items_in_batch)  # type: ignore[no-untyped-call]
            self._collect(batch, first_pass=within < self.args.optimizer_steps)
        self.accelerator.gradient_state._set_sync_gradients(True)
        if math.isfinite(float(total)):  # else that is the news
            self._check_freshness(batches)
        self._sums["loss"] += float(total)
        self._sums["learning_rate"] = float(self._get_learning_rate())
        self._sums["perf/seconds_update"] += time.perf_counter() - began
        return total

    def _collect(self, batch: Batch, first_pass: bool) -> None:
        """Add up TRL's metrics of one micro-batch, weighed by its tokens, and the log-probability gap."""
        tokens = batch["tokens"]
        trl = self._metrics["train"]
        self._sums["weight"] += tokens
        for ours, theirs in (("entropy", "entropy"), ("kl", "kl"), ("clip_ratio", "clip_ratio/region_mean")):
            if trl.get(theirs):
                self._sums[ours] += tokens * trl[theirs][-1]
        trl.clear()
        sampled, mask = batch.get("sampling_per_token_logps"), batch["completion_mask"].bool()
        trained = batch.get("old_per_token_logps", self._seen_logps)
        if first_pass and sampled is not None and trained is not None:
            gap = (trained - sampled).abs()[mask]
            self._sums["logprob_gap"] += float(gap.sum())
            self._largest_gap = max(self._largest_gap, float(gap.max()))
        if sampled is not None and self._seen_logps is not None:
            far = float((self._seen_logps - sampled).abs()[mask].max())
            self._largest_log_ratio = max(self._largest_log_ratio, far)
            self._sums["log_ratio_max"] = max(self._sums["log_ratio_max"], far)

    def _check_freshness(self, batches: list[Batch]) -> None:
        """Before the first optimizer step of a run, and of a resumed one: were answers sampled from these weights?"""
        if batches and not self._gap_checked:
            self._gap_checked = True
            bound = GapBound(self.args.max_logprob_gap, self.args.mean_logprob_gap)
            tokens = sum(batch["tokens"] for batch in batches)
            check_gap(self._sums["logprob_gap"] / tokens, self._largest_gap, bound, self.update + 1)

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        """The changes: what is equal in several rows is computed once, and the log-probabilities of the loss are kept,
        to be compared with those sampled from."""
        model, ids, mask, width = args[:4]
        if self._shares(ids.shape[1] - width, kwargs):
            with self.accelerator.autocast():
                inner = policy_of(self.accelerator.unwrap_model(model))
                rows = SharedRows.of(ids, mask, width)
                compute = packed_logprobs if self.args.gradient_checkpointing else shared_logprobs
                result = (*compute(inner, rows, entropy=kwargs.get("compute_entropy", False)), None)
        else:
            result = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if kwargs.get("compute_entropy"):
            self._seen_logps = result[0].detach()
        return result

    @property
    def shares_prompts(self) -> bool:
        """Whether equal prompts and answers are computed once."""
        assert isinstance(self.model, (PreTrainedModel, PeftModel))
        policy = policy_of(self.model)
        possible = has_plain_cache(policy) and (takes_masks(policy) or not self.args.gradient_checkpointing)
        return self.args.share_prompts and possible

    def _work_of(self, batch: Batch) -> tuple[int, int]:
        """Tokens that one pass over a micro-batch reads, padding included, and how many of them are padding."""
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        if not self.shares_prompts:
            return ids.numel(), int((mask == 0).sum())
        rows = SharedRows.of(ids, mask, batch["completion_ids"].shape[1])
        return rows.work(packed=self.args.gradient_checkpointing)

    def _shares(self, prompt_width: int, asked: Mapping[str, Any]) -> bool:
        """A prompt of one token has no beginning; images and experts are TRL's business."""
        others = {name for name, value in asked.items() if value not in (None, False)} - {
            "batch_size",
            "compute_entropy",
        }
        return self.shares_prompts and prompt_width > 1 and not others

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        """The only change: the norm is kept, and a loss or norm that is not finite stops before the optimizer."""
        norm = super()._get_grad_norm(model, grad_norm)  # type: ignore[no-untyped-call]
        value = float(norm) if norm is not None else 0.0
        scaled_down = self.args.fp16  # a gradient beyond fp16: the scaler takes no step and halves its scale
        if not ((math.isfinite(value) or scaled_down) and math.isfinite(self._sums["loss"])):
            part = int(self.state.global_step) % self.args.optimizer_steps
            raise NotFinite(
                f"update {self.update + 1}: loss {self._sums['loss']} or gradient norm {value} is not finite; "
                "the weights were not changed",
                {"update": self.update + 1, "loss": self._sums["loss"], "grad_norm": value},
                self._rows_of_parts[part],
            )
        self._sums["grad_norm"] += value
        guard, far = self.args.guard_grad_norm, self.args.guard_log_ratio
        if (guard is not None and value > guard) or (far is not None and self._largest_log_ratio > far):
            self._sums["withheld_steps"] += 1
            model.zero_grad(set_to_none=True)  # without gradients the optimizer moves nothing, momentum included
        return norm

    # Reporting

    def update_metrics(self) -> dict[str, Any]:
        """The metrics of the update just finished (names and meaning: README, "reading the metrics")."""
        if self.played is None:
            raise RuntimeError("no update has been played")
        sums, steps = self._sums, self.args.steps_per_update
        skipped = not sums["rows"]
        per_token = {name: None if skipped else sums[name] / sums["weight"] for name in ("entropy", "clip_ratio")}
        seconds = self.played.seconds
        return {
            "kind": "train",
            "update": self.update,
            "global_step": int(self.state.global_step),
            "skipped": skipped,
            **rollout_metrics(self.played),
            **{name: int(sums[name]) for name in _COUNTED},
            "loss": None if skipped else sums["loss"] / steps,
            **per_token,
            "kl": None if skipped or not self.beta else sums["kl"] / sums["weight"],
            "grad_norm": None if skipped else sums["grad_norm"] / steps,
            "learning_rate": sums["learning_rate"],
            "entropy_coef": float(self.entropy_coef),
            "log_ratio_max": None if skipped else sums["log_ratio_max"],
            "withheld_steps": int(sums["withheld_steps"]),
            "logprob_gap_mean": None if skipped else sums["logprob_gap"] / sums["tokens_completion"],
            "logprob_gap_max": None if skipped else self._largest_gap,
            **{name: sums[name] for name in ("perf/seconds_rollout", "perf/seconds_scoring", "perf/seconds_update")},
            "perf/seconds_total": sum(value for name, value in sums.items() if name.startswith("perf/seconds")),
            "perf/decisions_per_second": sum(len(e.steps) for e in self.played.episodes) / seconds,
            "perf/memory_bytes": peak_memory(self.args.device),
        }

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """The only change: TRL's own averages over rows are dropped; they would mislead."""
        self._metrics["train"].clear()
        self._metrics["eval"].clear()
        super().log(logs, start_time)

    # Checkpoints

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """The only change: what TRL wrote is handed to `on_checkpoint`."""
        self.on_phase("checkpoint", 0, 0, safe=False)
        super()._save_checkpoint(model, trial)  # type: ignore[no-untyped-call]
        self.on_checkpoint(Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}", self.update)

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

    def _prepare_reference(self, reference: PreTrainedModel) -> Any:
        if self.args.disable_dropout:
            disable_dropout_in_model(reference)
        add_fused_lm_head(reference, temperature=self.temperature, cast_lm_head_to_fp32=self.args.cast_lm_head_to_fp32)
        return self.accelerator.prepare_model(reference, evaluation_mode=True)


def _rows_in_hand(prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
    """TRL's `rollout_func`: hands over the rows of the current micro-batch, as they were sampled."""
    assert isinstance(trainer, MSGRPOTrainer)
    rows = trainer.rows_in_hand
    return {
        "prompt_ids": [list(row.prompt_ids) for row in rows],
        "completion_ids": [list(row.completion_ids) for row in rows],
        "logprobs": [list(row.logprobs) for row in rows],
    }


def _no_reward(prompts: list[Any], **_: Any) -> list[float | None]:
    """TRL asks for a reward function; advantages are ours, so its answer is never used."""
    return [0.0] * len(prompts)


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: of the accelerator where there is one, else of the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kibibytes
