"""Schedules of the learning rate, tried before a model is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from msgrpo_cli.config import trainer_fields
from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.launch.run import sound
from msgrpo_cli.training.schedule import try_schedule

NEEDS: dict[str, dict[str, Any]] = {
    "cosine_with_min_lr": {"min_lr": 1e-6},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1},
    "warmup_stable_decay": {"num_decay_steps": 10},
}
KINDS = sorted({*trainer_fields.few_values("lr_scheduler_type")} - {"reduce_lr_on_plateau"})


@pytest.mark.parametrize("kind", KINDS)
def test_a_schedule_that_lacks_what_it_needs_is_refused(kind: str) -> None:
    try_schedule(kind, NEEDS.get(kind), 1e-5)
    if kind in NEEDS:
        with pytest.raises(
            UsageError, match=rf"^trainer\.lr_scheduler_type={kind}: .*\+trainer\.lr_scheduler_kwargs\."
        ):
            try_schedule(kind, None, 1e-5)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["trainer.lr_scheduler_type=cosine_with_min_lr"], "cosine_with_min_lr: One of min_lr or min_lr_rate should"),
        (["trainer.lr_scheduler_type=linear", "+trainer.lr_scheduler_kwargs.foo=1"], "linear with .*'foo'"),
        (["trainer.lr_scheduler_type=polynomial", "+trainer.lr_scheduler_kwargs.lr_end=1"], "polynomial with .*lr_end"),
        (["trainer.warmup_steps=5"], "constant has no warm-up; use trainer.lr_scheduler_type=constant_with_warmup"),
        (["+trainer.lr_scheduler_kwargs.min_lr=1"], "lr_scheduler_kwargs=.*: trainer.lr_scheduler_type=constant reads"),
    ],
)
def test_it_is_refused_before_the_model_is_looked_for(overrides: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        sound(["model=qwen7b", *overrides], [])


def test_what_it_needs_may_be_typed() -> None:
    typed = ["trainer.lr_scheduler_type=cosine_with_min_lr", "+trainer.lr_scheduler_kwargs.min_lr=1e-7"]
    assert sound(["model=qwen7b", *typed], []) == compose("train", ["model=qwen7b", *typed])
