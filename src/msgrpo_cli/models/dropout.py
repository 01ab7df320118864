"""Noise that a model makes while it is trained: dropout, in layers of its own or as rates that functions read, and the
jitter that mixtures multiply what their router reads with.

Knows modules of torch and how their attributes are named. Knows nothing about what is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.modules.dropout import _DropoutNd

_JITTER = ("jitter_noise", "input_jitter_noise", "moe_jitter_eps")
"""Mixtral, MiniMax and Switch; Phi; DBRX. Phi's `router_jitter_noise` is none: a threshold, in evaluation too."""


def _rates(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module, str]]:
    """Name of the module, module and attribute of every rate above 0."""
    for place, module in model.named_modules():
        for name, value in list(vars(module).items()):
            is_rate = name == "p" if isinstance(module, _DropoutNd) else "drop" in name or name in _JITTER
            if is_rate and isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
                yield place, module, name


def active_dropout(model: torch.nn.Module) -> list[str]:
    """Where the model drops out or jitters while it is trained, such as `transformer.drop.p=0.1`."""
    return [f"{place}.{name}={getattr(module, name)}" for place, module, name in _rates(model)]


def switch_off(model: torch.nn.Module) -> None:
    """Set every rate to 0; TRL's own `disable_dropout` knows layers alone."""
    for _, module, name in _rates(model):
        setattr(module, name, 0.0)


@contextmanager
def switched_off(model: torch.nn.Module) -> Iterator[None]:
    """Every rate is 0 meanwhile."""
    rates = [(module, name, getattr(module, name)) for _, module, name in _rates(model)]
    switch_off(model)
    try:
        yield
    finally:
        for module, name, value in rates:
            setattr(module, name, value)
