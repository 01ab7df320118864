"""The MS-GRPO trainer: TRL's GRPOTrainer, fed with step rows of drawn episodes.

Knows rows, tensors and TRL's hooks. Knows nothing about games, prompts, Hydra or the run directory.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.models.utils import _ForwardRedirection

from msgrpo_cli.algo.batching import Row, deal, shared_out, step_rows, times_read, weighed_rows
from msgrpo_cli.common.memory import peak_memory
from msgrpo_cli.common.seeding import generator
from msgrpo_cli.models.adapters import policy_of
from msgrpo_cli.models.dropout import switch_off
from msgrpo_cli.rollout.collect import PlayedUpdate

from .checkpointing import CheckpointingTrainer
from .display import OnPhase
from .end_of_update import AfterUpdate, EndOfUpdate, FinishedUpdate
from .failures import not_finite
from .loss.experts import tell_experts
from .loss.gap import Far, GapBound, checked_gap
from .loss.gap_cause import cause
from .loss.metrics import UpdateFigures
from .loss.micro_batch import Batch, entropies, model_inputs, no_reward, normalise, rows_in_hand, work
from .loss.shared_logprobs import Sharing, told_positions
from .parallel.equals import compare, own_figures
from .parallel.ranks import ALONE, Ranks
from .parallel.sharding import read_alone
from .reference import as_trl_reads_it
from .settings import MSGRPOConfig

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # rollout_func is experimental; a contract test watches it


class MSGRPOTrainer(CheckpointingTrainer):
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
    micro-batches. Rows weigh through `batching.weighed_rows`. An optimizer step whose rows all have advantage 0 does no
    backward pass: the gradients stay None and the optimizer moves nothing, momentum and weight decay included. TRL
    counts it, so schedule and seeds go on as ever; T counts its tokens, entropy and gap are those of what is read.

    Several `ranks` play, draw and cut the same; each trains on its own micro-batches, as many as every other, with
    t_step and T counted over all of them. torch takes the mean of their gradients, so each weighs P times as much, for
    P ranks: the accumulation factor is t_step / (P t). What decides or is written down is summed over the ranks before.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        args: MSGRPOConfig,
        tokenizer: PreTrainedTokenizerBase,
        play: Callable[[int], PlayedUpdate],
        on_checkpoint: Callable[[Path, int], None] = lambda partial, update: None,
        reference: PreTrainedModel | None = None,
        *,
        on_update: Callable[[FinishedUpdate], AfterUpdate] = lambda finished: AfterUpdate(),
        on_phase: OnPhase = lambda name, finished, total, *, safe: None,
        ranks: Ranks = ALONE,
    ) -> None:
        """`play(update)` plays update number `update` (from 1); on several `ranks` it gives the same on each.

        `on_checkpoint(directory, update)` gets every checkpoint after TRL wrote it under `args.output_dir`, and moves
        it to where it belongs. `reference` is needed where `args.beta` > 0 and a whole model is trained. `on_update` is
        told of every finished update, and answers what follows from it. `on_phase` is told where an update stands;
        where it is `safe`, it may raise to leave, for no weight has been changed since the last update.
        """
        if args.disable_dropout:
            switch_off(model)
        tell_experts(policy_of(model), args)
        beta, args.beta = args.beta, 0.0  # TRL would build its own reference from the model's path
        use_vllm, args.use_vllm = args.use_vllm, False  # TRL would start vLLM for micro-batches; the policy's does
        super().__init__(
            model=model,
            reward_funcs=[no_reward],
            args=args,
            train_dataset=Dataset.from_dict({"prompt": [""]}),
            processing_class=tokenizer,
            rollout_func=rows_in_hand,
            callbacks=[EndOfUpdate(args.steps_per_update, self.finished_update, on_update)],
        )
        args.beta = self.beta = beta
        args.use_vllm = self.use_vllm = use_vllm  # corrects for what vLLM computes differently
        if beta and not isinstance(model, PeftModel):  # TRL switches an adapter off for the reference
            if reference is None:
                raise ValueError("beta > 0 needs a reference model")
            ready = as_trl_reads_it(reference, args, self.temperature)
            self.ref_model = self.accelerator.prepare_model(ready, evaluation_mode=True)
        self.ranks = ranks
        self.mask_truncated_completions = False  # cut rows are left out: TRL does not know all ends of a conversation
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
        self._least_entropy = 0.0
        self.figures = UpdateFigures()
        self.inner, forgetful = policy_of(model), self._make_ready(model)
        shares = args.share_prompts and not self.aux_loss_enabled  # which is computed of experts in separate rows
        self.sharing = Sharing.of(self.inner, checkpointing=forgetful) if shares else None

    def _make_ready(self, model: PreTrainedModel | PeftModel) -> bool:
        """Before the optimizer is made; whether what layers have kept is gone when gradients flow back."""
        return bool(self.args.gradient_checkpointing)

    @property
    def largest_micro_batch(self) -> int:
        """Rows, distinct ones where they are shared, of the largest micro-batch of the present update."""
        sizes = [batch["size"] for part in self._parts for batch in part]
        in_hand = times_read(self.rows_in_hand, shared=bool(self.sharing))
        return max(sizes, default=in_hand or self.args.rows_per_micro_batch)

    # Data

    def get_train_dataloader(self) -> DataLoader[Any]:
        """One empty batch per optimizer step: all data come from playing."""
        return DataLoader([{}] * self.args.max_steps, batch_size=1, collate_fn=lambda batch: batch[0])  # type: ignore[arg-type]

    def _prepare_inputs(self, generation_batch: Batch) -> Batch:
        """Micro-batches are prepared when their update is played."""
        return generation_batch

    def _play_update(self) -> None:
        began = time.perf_counter()
        self.played = self.play(self.update + 1)
        self.figures = UpdateFigures(seconds_rollout=time.perf_counter() - began)
        began = time.perf_counter()
        rows, factors = weighed_rows(
            step_rows(self.played.trained),
            self.args.length_normalization,
            self.args.max_completion_length or 1,
            mask_truncated=self.args.mask_truncated_completions,
        )
        if not any(row.advantage for row in rows):  # a draw may miss the only signal: no step is taken without any
            rows, factors = [], factors[:0]
        tokens = sum(len(row.completion_ids) for row in rows)
        rng = generator((self.args.run_seed, self.update + 1, "deal"))
        self._parts, self._rows_of_parts = [], []
        for part in deal(len(rows), self.args.optimizer_steps, rng):
            self.on_phase("scoring", len(self._parts), self.args.optimizer_steps, safe=self.ranks.alone)
            learnt = part if any(rows[i].advantage for i in part) else part[:0]
            most, count = self.args.rows_per_micro_batch, self.ranks.count
            cut = shared_out(learnt, rows, most, shared=bool(self.sharing), ranks=count)
            self._rows_of_parts.append([rows[i] for i in part])
            self._parts.append([self._batch(few, rows, factors) for few in cut[self.ranks.rank]])
            step_tokens = sum(len(rows[i].completion_ids) for i in learnt)
            normalise(self._parts[-1], tokens, step_tokens / count, self.args.device)
        if self.top_entropy_quantile < 1.0 and rows:
            some = self.ranks.gather(lambda: entropies(self._parts, self._read))
            self._least_entropy = float(np.quantile(np.concatenate(some), 1 - self.top_entropy_quantile))
        read = [batch["work"] for batches in self._parts for batch in batches]
        for number, batches in enumerate(self._parts):
            old = [batch["old_per_token_logps"] for batch in batches if "old_per_token_logps" in batch]
            self.figures.logprob_gap.join(self._checked_gap(number, old))
        of_all = [one for of_rank in self.ranks.gather(lambda: read) for one in of_rank]
        self.figures.scored(rows, of_all, seconds=time.perf_counter() - began)

    def _checked_gap(self, number: int, trained: list[torch.Tensor]) -> Far:
        """Of a part of the update, none of whose steps was taken: `trained` has a tensor for every micro-batch."""
        bound, steps = GapBound(self.args.max_logprob_gap, self.args.mean_logprob_gap), self.args.optimizer_steps
        find = partial(self._cause_of_gap, bound)
        part, of, alone = self._parts[number], (number + 1, steps), partial(read_alone, self.inner)
        return checked_gap(part, trained, bound, self.update + 1, find, of, self.ranks, alone)

    def _cause_of_gap(self, bound: GapBound, batches: Sequence[Batch]) -> str:
        """Asked on one rank alone."""
        assert self.model is not None
        return cause(self.model, batches, read=self._read, bound=bound, shares=bool(self.sharing))

    def _batch(self, numbers: Sequence[int], update: Sequence[Row], factors: np.ndarray) -> Batch:
        """The rows of these numbers, out of an update's, as TRL's tensors, old and reference log-probabilities included
        where they are needed. Of no rows: one that counts for nothing, since all ranks take the same passes."""
        rows = [update[i] for i in numbers] or [min(update, key=lambda row: row.length)]
        self.rows_in_hand = rows
        self._last_loaded_step = self.state.global_step  # the policy's generator pushed the weights before it played
        assert self.model is not None
        self.model.train()
        self.ranks.beat.moved()
        with own_figures(self.accelerator, self.ranks):
            batch: Batch = self._generate_and_score_completions([{"prompt": ""} for _ in rows])
        weighed = [update[i].advantage * factors[i] for i in numbers] or [0.0]
        batch["advantages"] = torch.tensor(weighed, dtype=torch.float32, device=self.args.device)
        if not len(numbers):
            batch["tool_mask"] = torch.zeros_like(batch["completion_mask"])  # TRL's word for what is no loss
        batch["tokens"] = sum(len(update[i].completion_ids) for i in numbers)
        batch["size"] = times_read(rows, shared=bool(self.sharing))
        batch["work"] = work(batch, self.sharing)
        return batch

    def _calculate_rewards(self, inputs: Any, prompts: Sequence[Any], *_: Any) -> torch.Tensor:
        """The only change: no function is asked, nor the other ranks; advantages are ours."""
        return torch.zeros(len(prompts), 1, device=self.args.device)

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
        seen: list[torch.Tensor] = []
        self.figures.log_ratio_of_step = 0.0
        model.train()
        with self.ranks.in_step(), own_figures(self.accelerator, self.ranks):
            for number, batch in enumerate(batches):
                self.on_phase("update", number, len(batches), safe=within == 0 and self.ranks.alone)
                last = batch is batches[-1]
                self.accelerator.gradient_state._set_sync_gradients(last)
                self.current_gradient_accumulation_steps = batch["accumulation"]
                with nullcontext() if last else self.accelerator.no_sync(model):
                    total += super().training_step(model, batch, num_items_in_batch)  # type: ignore[no-untyped-call]
                self.figures.trained(batch, self._metrics["train"], self._seen_logps)
                seen += [] if self._seen_logps is None else [self._seen_logps]
                self._metrics["train"].clear()
        self.accelerator.gradient_state._set_sync_gradients(True)
        if not self.ranks.alone:
            total = torch.tensor(self.figures.step_joined(self.ranks, float(total)), device=self.args.device)
        if within == 0 and math.isfinite(float(total)):
            gap = self._checked_gap(0, seen)
            self.figures.logprob_gap = self.figures.logprob_gap if self.figures.logprob_gap.tokens else gap
        self.figures.stepped(float(total), float(self._get_learning_rate()), seconds=time.perf_counter() - began)
        return total

    @torch.no_grad()
    def _read(self, batch: Batch, *, shared: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and entropies of the completions, shape (N, T), with equal prompts shared or not."""
        sharing, self.sharing = self.sharing, self.sharing if shared else None
        read = self._get_per_token_logps_and_entropies(self.model, *model_inputs(batch), compute_entropy=True)
        self.sharing = sharing
        return read[0], read[1]

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        """The changes: what is equal in several rows is computed once, every model is told the positions of tokens, and
        the log-probabilities of the loss are kept, to be compared with those sampled from."""
        model, ids, mask, width = args[:4]
        bare = self.accelerator.unwrap_model(model)
        inner = policy_of(bare)
        if self.sharing:
            read = partial(self.sharing.logprobs, inner, entropy=kwargs.get("compute_entropy", False))
            with self.accelerator.autocast():
                if model is bare:
                    found = read(ids, mask, width)
                else:  # torch sums the gradients of what went through its wrapper, and of nothing else
                    found = _ForwardRedirection()(model, bare, read, ids, mask, width)
            result = (*found, None)
        else:
            result = super()._get_per_token_logps_and_entropies(told_positions(model, inner), *args[1:], **kwargs)
        if kwargs.get("compute_entropy"):
            self._seen_logps = result[0].detach()
        return result

    def get_high_entropy_mask(self, entropies: torch.Tensor, mask: torch.Tensor, threshold: float) -> torch.Tensor:
        """The only change: the quantile is the update's, so that micro-batches do not matter."""
        return (entropies >= self._least_entropy) & mask.bool()

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        """The only change: the norm is kept, and a loss or norm that is not finite stops before the optimizer."""
        norm = super()._get_grad_norm(model, grad_norm)  # type: ignore[no-untyped-call]
        value = float(norm) if norm is not None else 0.0
        scaled_down = self.args.fp16  # a gradient beyond fp16: the scaler takes no step and halves its scale
        figures = self.figures
        if not ((math.isfinite(value) or scaled_down) and math.isfinite(figures.loss)):
            at = int(self.state.global_step) % self.args.steps_per_update
            rows = self._rows_of_parts[at % self.args.optimizer_steps]
            raise self.ranks.blaming(not_finite(self.update + 1, at, figures.loss, value, rows), figures.not_finite_on)
        figures.grad_norm += value
        guard, far = self.args.guard_grad_norm, self.args.guard_log_ratio
        if (guard is not None and value > guard) or (far is not None and figures.log_ratio_of_step > far):
            figures.withheld_steps += 1
            model.zero_grad(set_to_none=True)  # without gradients the optimizer moves nothing, momentum included
        return norm

    # Reporting

    def update_metrics(self) -> dict[str, Any]:
        """The metrics of the update just finished (names and meaning: docs/metrics.md)."""
        if self.played is None:
            raise RuntimeError("no update has been played")
        return {
            "kind": "train",
            "update": self.update,
            "global_step": int(self.state.global_step),
            "entropy_coef": float(self.entropy_coef),
            **self.figures.metrics(self.played, self.args.steps_per_update, with_kl=bool(self.beta)),
            "perf/memory_bytes": peak_memory(self.args.device),
        }

    def finished_update(self) -> FinishedUpdate:
        """The update just finished. Raises RunError where ranks have come to different weights."""
        if not self.ranks.alone:
            self.figures.update_joined(self.ranks)
            self._compare_weights()
        metrics = self.update_metrics()
        assert self.played is not None
        step, steps = int(self.state.global_step), self.args.steps_per_update
        return FinishedUpdate(self.played, metrics, step, steps, self.log)

    def _compare_weights(self) -> None:
        """Raises RunError where they are no longer the same on all ranks."""
        compare(self.ranks, self.inner, self.update)

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """The only change: TRL's own averages over rows are dropped; they would mislead."""
        self._metrics["train"].clear()
        self._metrics["eval"].clear()
        super().log(logs, start_time)
