"""The schedule of the learning rate: whether the chosen one can be made, and where a resumed run stands in it.

Knows transformers' schedulers by the one function that makes them all, as its Trainer calls it. Knows nothing about
models, games or TRL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers.optimization import get_scheduler

from msgrpo_cli.common.text import one_line
from msgrpo_cli.errors import UsageError

_STEPS = 100  # any number: what is refused does not depend on it


def try_schedule(kind: str, keys: Mapping[str, Any] | str | None, learning_rate: float | None) -> None:
    """Raises UsageError where transformers would refuse the schedule, which it does once the model is loaded.

    `keys` are those of `trainer.lr_scheduler_kwargs`, in which a text is JSON.
    """
    rate = 1.0 if learning_rate is None else learning_rate
    given = "" if keys is None else f" with trainer.lr_scheduler_kwargs={keys}"
    try:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
        own = json.loads(keys) if isinstance(keys, str) else dict(keys or {})
        get_scheduler(kind, optimizer, num_warmup_steps=0, num_training_steps=_STEPS, scheduler_specific_kwargs=own)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UsageError(
            f"trainer.lr_scheduler_type={kind}{given}: {one_line(error)}; what a schedule takes is given as "
            "+trainer.lr_scheduler_kwargs.KEY=VALUE"
        ) from error


def take_place(schedule: object, optimizer: Any) -> None:
    """Give the optimizer the rate that the schedule has at its present step.

    What is loaded is the rate that the former schedule had there: 0 at the end of a line, where a run goes on for
    longer. Of an unchanged schedule it is the same number.
    """
    if isinstance(schedule, LambdaLR):
        rates = zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
        schedule._last_lr = [rate * share(schedule.last_epoch) for rate, share in rates]
        for group, rate in zip(optimizer.param_groups, schedule._last_lr, strict=True):
            group["lr"] = rate
