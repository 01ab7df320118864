"""Who sits on the seats that are not trained; of them the pool of earlier checkpoints: when one joins, who may be
drawn, and how they are read back.

Knows where a run keeps them, its scores on validation, and ranks. Knows nothing about games or losses. What may be
drawn for an update follows from its number and the rows of the run alone, so a run that goes on draws the same. Of
several ranks the first writes, drops and says who may be drawn; then each reads the weights that its own games ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from msgrpo_cli.common.files import remove_directory, whole_directory
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import RunError
from msgrpo_cli.evaluation.opponents import SeatedCheckpoint, seated_player
from msgrpo_cli.models.adapters import name_base, policy_of
from msgrpo_cli.models.policy import LanguageAgentPolicy
from msgrpo_cli.rollout.play import Policy
from msgrpo_cli.rollout.seating import POOL
from msgrpo_cli.runs import checkpoint
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.metrics import read_rows
from msgrpo_cli.runs.pretrained import local_path

from .parallel.ranks import ALONE, Ranks
from .parallel.sharding import is_shared_out, whole_weights

Drawable = tuple[tuple[str, float], ...]
"""Names of the pool's members, each with the weight that it is drawn with."""


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
    ranks: Ranks = ALONE
    _read: dict[str, Policy] = field(default_factory=dict)
    """Whoever sits somewhere and has come to decide on this rank."""

    def before(self, update: int) -> Drawable:
        """Keep the present weights where they join, drop those that nobody asks for any more, and say who may be drawn
        in this update. All ranks ask."""
        rules = self.config.selfplay
        if (update - 1) % rules.every == 0:
            self._keep(update - 1)
        there = members(update, rules.every, rules.pool)
        drawable = self.ranks.told(partial(self._drawable, there))
        gone = {name for name in self._read if _of_pool(name)} - {*map(_name, there)}
        self._read = {name: policy for name, policy in self._read.items() if name not in gone}
        return drawable

    def player(self, name: str) -> Policy:
        """Who sits on a seat by this name, one of the pool among them."""
        if name not in self._read:
            with self.ranks.beat.reading(), _drawing_nothing():
                self._read[name] = self._stored(name) if _of_pool(name) else seated_player(name)
            seated = self._read[name]
            policy = seated.policy if isinstance(seated, SeatedCheckpoint) else seated
            if not self.ranks.alone and isinstance(policy, LanguageAgentPolicy):
                self.ranks.beat.follow(policy.model)
        return self._read[name]

    def _stored(self, name: str) -> Policy:
        path = self.run.path / name
        if (damage := checkpoint.damage(path, read="model") if path.exists() else f"{path}: missing") is not None:
            raise RunError(f"{damage}; the pool needs it to go on as before: start anew with msgrpo train --from")
        return self.stored_policy(path)

    def _drawable(self, there: list[int]) -> Drawable:
        """On the first rank alone: it has written the rows that hold the scores."""
        self._drop(there)
        weights = [1.0] * len(there) if self.config.selfplay.choose == "uniform" else by_rank(self._scores(there))
        return tuple(zip(map(_name, there), weights, strict=True))

    def _keep(self, update: int) -> None:
        whole = whole_weights(self.model) if is_shared_out(policy_of(self.model)) else None  # all ranks gather them
        self.ranks.told(partial(self._write, update, whole))

    def _write(self, update: int, weights: Mapping[str, Any] | None) -> None:
        """`weights`: None for the model's own."""
        final = self.run.path / _name(update)
        self.run.pool.mkdir(exist_ok=True)
        metadata = checkpoint.metadata_of(self.config, self.run, update, None)
        with whole_directory(final) as folder:
            self.model.save_pretrained(str(folder), state_dict=weights)  # type: ignore[arg-type]
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


def _of_pool(name: str) -> bool:
    return name.startswith(f"{POOL}/")


def _drawing_nothing() -> AbstractContextManager[None]:
    """Around what makes weights, which draws numbers: those that training draws stay the same."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    return torch.random.fork_rng(devices=devices)
