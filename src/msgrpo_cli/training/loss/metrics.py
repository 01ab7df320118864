"""What one update adds up while it is trained on, and the metrics that come of it.

Knows rows, TRL's metrics of one micro-batch, and the names of ours. Knows nothing about models, engines, games or
files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgrpo_cli.algo.batching import Row
from msgrpo_cli.models.beginnings import distinct_beginnings
from msgrpo_cli.rollout.collect import PlayedUpdate, rollout_metrics

from .gap import Far

if TYPE_CHECKING:
    import torch

    from ..parallel.ranks import Ranks

_FROM_TRL = {"entropy": "entropy", "kl": "kl", "clip_ratio": "clip_ratio/region_mean"}


@dataclass
class UpdateFigures:
    """The sums of one update: over its optimizer steps, their micro-batches and tokens."""

    seconds_rollout: float = 0.0
    seconds_scoring: float = 0.0
    seconds_update: float = 0.0
    rows: int = 0
    tokens_prompt: int = 0
    tokens_completion: int = 0
    tokens_distinct: int = 0
    tokens_read: int = 0
    tokens_padding: int = 0
    loss: float = 0.0
    grad_norm: float = 0.0
    learning_rate: float = 0.0
    withheld_steps: int = 0
    logprob_gap: Far = field(default_factory=Far)
    """Between sampling and training log-probabilities, of each token once, before any weight is changed."""
    log_ratio_max: float = 0.0
    log_ratio_of_step: float = 0.0
    """The farthest token of the present optimizer step from the policy that it was sampled from."""
    not_finite_on: int = 0
    """The first of several ranks whose loss is no number; where all are, this one, which meets what came of the sum."""
    _weight: int = 0
    _trl: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_FROM_TRL, 0.0))

    def scored(self, rows: Sequence[Row], work: Sequence[tuple[int, int]], *, seconds: float) -> None:
        """The rows of the update; tokens that are read, and padding among them, of every micro-batch."""
        self.rows = len(rows)
        self.tokens_prompt = sum(len(row.prompt_ids) for row in rows)
        self.tokens_completion = sum(len(row.completion_ids) for row in rows)
        self.tokens_distinct = distinct_beginnings((*row.prompt_ids, *row.completion_ids[:-1]) for row in rows)
        self.tokens_read = sum(read for read, _ in work)
        self.tokens_padding = sum(padding for _, padding in work)
        self.seconds_scoring = seconds

    def trained(self, batch: Mapping[str, Any], trl: Mapping[str, list[float]], seen: torch.Tensor | None) -> None:
        """A micro-batch: TRL's means, weighed by its tokens; `seen` are the log-probabilities of the loss, (N, T)."""
        tokens = batch["tokens"]
        self._weight += tokens
        for ours, theirs in _FROM_TRL.items():
            if trl.get(theirs):
                self._trl[ours] += tokens * trl[theirs][-1]
        far = 0.0 if seen is None else Far.of(batch, seen).largest
        self.log_ratio_of_step = max(self.log_ratio_of_step, far)
        self.log_ratio_max = max(self.log_ratio_max, far)

    def step_joined(self, ranks: Ranks, loss: float) -> float:
        """Of the optimizer step that all ranks have just computed: the farthest token of all of them, and its loss, of
        which each rank gives P times its share."""
        losses, ratios = zip(*ranks.gather(lambda: (loss, self.log_ratio_of_step)), strict=True)
        self.not_finite_on = next((rank for rank, one in enumerate(losses) if not math.isfinite(one)), ranks.rank)
        self.log_ratio_of_step = max(ratios)
        self.log_ratio_max = max(self.log_ratio_max, self.log_ratio_of_step)
        return float(sum(losses) / ranks.count)

    def update_joined(self, ranks: Ranks) -> None:
        """TRL's sums over the whole update, of all ranks."""
        given = ranks.gather(lambda: (self._weight, self._trl))
        self._weight = sum(weight for weight, _ in given)
        self._trl = {name: sum(trl[name] for _, trl in given) for name in _FROM_TRL}

    def stepped(self, loss: float, learning_rate: float, *, seconds: float) -> None:
        """An optimizer step's forward and backward passes are done."""
        self.loss += loss
        self.learning_rate += learning_rate
        self.seconds_update += seconds

    def metrics(self, played: PlayedUpdate, optimizer_steps: int, *, with_kl: bool) -> dict[str, Any]:
        """Names and meaning: docs/metrics.md."""
        skipped = not self.rows

        def unless_skipped(value: float, over: int) -> float | None:
            return None if skipped else value / over

        return {
            "skipped": skipped,
            **rollout_metrics(played),
            "rows": self.rows,
            "tokens_prompt": self.tokens_prompt,
            "tokens_completion": self.tokens_completion,
            "tokens_distinct": self.tokens_distinct,
            "tokens_read": self.tokens_read,
            "tokens_padding": self.tokens_padding,
            "loss": unless_skipped(self.loss, optimizer_steps),
            "entropy": unless_skipped(self._trl["entropy"], self._weight),
            "clip_ratio": unless_skipped(self._trl["clip_ratio"], self._weight),
            "kl": unless_skipped(self._trl["kl"], self._weight) if with_kl else None,
            "grad_norm": unless_skipped(self.grad_norm, optimizer_steps),
            "learning_rate": self.learning_rate / optimizer_steps,
            "log_ratio_max": unless_skipped(self.log_ratio_max, 1),
            "withheld_steps": self.withheld_steps,
            "logprob_gap_mean": unless_skipped(self.logprob_gap.mean, 1),
            "logprob_gap_max": unless_skipped(self.logprob_gap.largest, 1),
            "perf/seconds_rollout": self.seconds_rollout,
            "perf/seconds_scoring": self.seconds_scoring,
            "perf/seconds_update": self.seconds_update,
            "perf/seconds_total": self.seconds_rollout + self.seconds_scoring + self.seconds_update,
            "perf/decisions_per_second": sum(len(e.steps) for e in played.episodes) / played.seconds,
        }
