"""`msgrpo bench update`: training on one update's rows, beside the bare model's forward and backward over them.

Knows the trainer and what is measured. Knows nothing about how episodes are played or about the command line.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PrinterCallback, ProgressCallback

from msgrpo_cli.algo.batching import Row, micro_batches, step_rows
from msgrpo_cli.common.console import say
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import UsageError
from msgrpo_cli.models.adapters import policy_of
from msgrpo_cli.models.factory import language_agent
from msgrpo_cli.models.loading import initial_model, quiet_libraries
from msgrpo_cli.models.precision import device_for
from msgrpo_cli.models.shared_generation import single
from msgrpo_cli.models.surroundings import neutralise
from msgrpo_cli.rollout.collect import PlayedUpdate
from msgrpo_cli.runs.directory import Run

from ..end_of_update import AfterUpdate, FinishedUpdate
from ..settings import training_arguments
from ..trainer import MSGRPOTrainer
from .limit import LIMITS, Once, Pair, update_limit
from .meter import beside_limits, machine, median, seconds_of
from .rollout import play


def bench_update(config: RunConfig, repeats: int) -> dict[str, Any]:
    """Medians over `repeats` updates on the same rows, each after a round of the limits.

    Two updates are not counted: the first runs without limits, for the memory that it takes; the second warms them up.
    """
    quiet_libraries()
    neutralise(say)
    rounds = repeats + 2
    config = config.model_copy(update={"max_updates": rounds})
    with tempfile.TemporaryDirectory(prefix="msgrpo-bench-") as folder:
        return _Bench(config, Run(Path(folder))).measure(rounds)


class _Bench:
    """A trainer whose every update trains on the same rows; the limits run where others play."""

    def __init__(self, config: RunConfig, run: Run) -> None:
        self.device = device_for(config.trainer)
        arguments = training_arguments(config, run, self.device)
        self.model, tokenizer = initial_model(config, run)
        self.model.to(self.device)  # type: ignore[arg-type]
        self.played = play(config, language_agent(config, policy_of(self.model), tokenizer, single(config)))
        if not self.played.trained:
            raise UsageError("algo: no episode was drawn, for all groups play alike; take more groups, or another seed")
        self.trainer = MSGRPOTrainer(self.model, arguments, tokenizer, self._play, on_update=self._after_update)
        self.trainer.remove_callback(PrinterCallback)
        self.trainer.remove_callback(ProgressCallback)
        self.rows: list[dict[str, Any]] = []
        self.limits: dict[Once, list[float]] = {once: [] for once in LIMITS}

    def _play(self, update: int) -> PlayedUpdate:
        if update == 1:
            return self.played
        rows = step_rows(self.played.trained)
        cut = micro_batches(
            np.arange(len(rows)), rows, self.trainer.args.rows_per_micro_batch, shared=bool(self.trainer.sharing)
        )
        batches = [[_pair(rows[number]) for number in numbers] for numbers in cut]
        for once, found in self.limits.items():
            found.append(seconds_of(lambda once=once: self._bare(batches, once), self.device))  # type: ignore[misc]
        return self.played

    def _bare(self, batches: list[list[Pair]], once: Once) -> None:
        """As many passes as the update makes."""
        for _ in range(self.trainer.args.num_iterations):
            update_limit(policy_of(self.model), batches, once)

    def _after_update(self, finished: FinishedUpdate) -> AfterUpdate:
        self.rows.append(finished.metrics)
        return AfterUpdate()

    def measure(self, rounds: int) -> dict[str, Any]:
        """Train; the figures are medians of one update's seconds, and its rows, tokens and bytes."""
        self.trainer.train()
        rows = self.rows[2:]
        seconds = [row["perf/seconds_scoring"] + row["perf/seconds_update"] for row in rows]
        limits = {once: found[1:] for once, found in self.limits.items()}  # the first warmed up
        last = rows[-1]
        trained = [step.completion for episode, _ in self.played.trained for step in episode.steps]
        return {
            "parameters": self.model.num_parameters(),
            "rows": last["rows"],
            "decisions_per_second": last["rows"] / median(seconds),
            "tokens_per_second": (last["tokens_prompt"] + last["tokens_completion"]) / median(seconds),
            "seconds": median(seconds),
            "seconds_scoring": median([row["perf/seconds_scoring"] for row in rows]),
            "seconds_update": median([row["perf/seconds_update"] for row in rows]),
            **beside_limits(seconds, limits),
            "tokens_without_loss": last["tokens_prompt"],
            "tokens_with_loss": last["tokens_completion"],
            "tokens_read": last["tokens_read"],
            "trie_tokens": last["tokens_distinct"],
            "padding_share": last["tokens_padding"] / last["tokens_read"],
            "duplicate_prompt_share": 1 - len({answer.prompt_ids for answer in trained}) / len(trained),
            "peak_memory_bytes": self.rows[0]["perf/memory_bytes"],
            "repeats": len(rows),
            "machine": machine(self.device),
        }


def _pair(row: Row) -> Pair:
    return row.prompt_ids, row.completion_ids
