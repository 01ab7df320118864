"""The pool of earlier checkpoints that sit on seats: when one joins, who may be drawn, and how they are read back.

Knows where a run keeps them, and its scores on validation. Knows nothing about games, seats or losses. What may be
drawn for an update follows from its number and the rows of the run alone, so a run that goes on draws the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from msgrpo_cli.common.files import remove_directory, whole_directory
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import RunError
from msgrpo_cli.evaluation.opponents import seated_player
from msgrpo_cli.models.adapters import name_base
from msgrpo_cli.models.policy import LanguageAgentPolicy
from msgrpo_cli.rollout.play import Policy
from msgrpo_cli.rollout.seating import POOL
from msgrpo_cli.runs import checkpoint
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.metrics import read_rows
from msgrpo_cli.runs.pretrained import local_path


def members(update: int, every: int, most: int) -> list[int]:
    """The updates whose weights may play in update number `update` (from 1): multiples of `every` before it, 0 among
    them, the latest `most`."""
    return list(range(0, update, every))[-most:]


def by_rank(scores: list[float]) -> list[float]:
    """Weights 1 for the lowest score, 2 for the next, ...; of equal scores the later counts as higher."""
    order = sorted(range(len(scores)), key=lambda number: (scores[number], number))
    return [float(order.index(number) + 1) for number in range(len(scores))]


@dataclass
class CheckpointPool:
    """Earlier weights of one run, under its `pool/`."""

    config: RunConfig
    run: Run
    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    stored_policy: Callable[[Path], LanguageAgentPolicy]
    """The policy of a checkpoint, as read back from disk."""
    _loaded: dict[str, Policy] = field(default_factory=dict)

    def before(self, update: int) -> tuple[tuple[str, float], ...]:
        """Keep the present weights where they join, drop those that nobody asks for any more, and say who may be drawn
        in this update, with weights."""
        rules = self.config.selfplay
        if (update - 1) % rules.every == 0:
            self._keep(update - 1)
        there = members(update, rules.every, rules.pool)
        self._drop(there)
        self._loaded = {name: self._loaded[name] for name in map(_name, there) if name in self._loaded}
        weights = [1.0] * len(there) if rules.choose == "uniform" else by_rank(self._scores(there))
        return tuple(zip(map(_name, there), weights, strict=True))

    def player(self, name: str) -> Policy:
        """Who sits on a seat by this name, one of the pool among them."""
        if not name.startswith(f"{POOL}/"):
            return seated_player(name)
        if name not in self._loaded:
            path = self.run.path / name
            if (damage := checkpoint.damage(path, read="model") if path.exists() else f"{path}: missing") is not None:
                raise RunError(f"{damage}; the pool needs it to go on as before: start anew with msgrpo train --from")
            with torch.random.fork_rng():  # what is drawn while weights are made must not move what training draws
                self._loaded[name] = self.stored_policy(path)
        return self._loaded[name]

    def _keep(self, update: int) -> None:
        final = self.run.path / _name(update)
        self.run.pool.mkdir(exist_ok=True)
        metadata = checkpoint.metadata_of(self.config, self.run, update, None)
        with whole_directory(final) as folder:
            self.model.save_pretrained(str(folder))
            self.tokenizer.save_pretrained(folder)
            if self.config.lora.enabled:
                base = checkpoint.base_of(final, metadata)
                name_base(folder, local_path(base.path), base.revision)
            checkpoint.describe(folder, metadata)

    def _drop(self, there: list[int]) -> None:
        """A run may go on from any of its checkpoints, so what those need stays too."""
        rules = self.config.selfplay
        needed = {*there}
        for path in checkpoint.checkpoints(self.run):
            needed.update(members(checkpoint.update_of(path) + 1, rules.every, rules.pool))
        for path in self.run.pool.glob("update-*"):
            if path.name not in {Path(_name(number)).name for number in needed}:
                remove_directory(path)

    def _scores(self, there: list[int]) -> list[float]:
        known = {
            row["update"]: float(row["mean_total_reward"])
            for row in read_rows(self.run.metrics)
            if row["kind"] == "eval" and row["checkpoint"] is None
        }
        return [known.get(number, -float("inf")) for number in there]


def _name(update: int) -> str:
    return f"{POOL}/update-{update}"
