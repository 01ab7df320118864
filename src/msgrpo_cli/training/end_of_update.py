"""What the end of an update tells, and the hook that takes the answer to TRL: save a checkpoint, stop the run.

Knows TRL's hooks at the beginning and after an optimizer step. Knows nothing about how an update is made, or what is
decided at its end: the recorder does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from msgrpo_cli.rollout.collect import PlayedUpdate

from .schedule import take_place


@dataclass(frozen=True)
class FinishedUpdate:
    """What is known once the last optimizer step of an update is taken."""

    played: PlayedUpdate
    metrics: dict[str, Any]
    """One row of metrics.jsonl."""
    global_step: int
    optimizer_steps: int
    """Of this update, all passes together; withheld ones are counted too."""
    log: Callable[[dict[str, Any]], None]
    """Takes numbers to the trackers that the run reports to."""


class AfterUpdate(NamedTuple):
    """What follows from a finished update."""

    save: bool = False
    stop: bool = False


class EndOfUpdate(TrainerCallback):
    """TRL's hook after every optimizer step, as one after every update."""

    def __init__(
        self,
        steps_per_update: int,
        finished: Callable[[], FinishedUpdate],
        on_update: Callable[[FinishedUpdate], AfterUpdate],
    ) -> None:
        self._steps_per_update, self._finished, self._on_update = steps_per_update, finished, on_update

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        optimizer: Any = None,
        lr_scheduler: object = None,
        **_: Any,
    ) -> None:
        """A run that goes on for longer follows the longer schedule from its first step."""
        take_place(lr_scheduler, optimizer)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Takes the answer of `on_update` to TRL; nothing else sets `should_save`."""
        if int(state.global_step) % self._steps_per_update:
            return control
        after = self._on_update(self._finished())
        control.should_training_stop |= after.stop
        control.should_save = after.save
        return control
