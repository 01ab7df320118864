"""Dropout, wherever an architecture keeps it: in layers of its own, or as rates that functions read.

Knows modules of torch and how their attributes are named. Knows nothing about what is trained.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch


def _rates(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module, str]]:
    """Name of the module, module and attribute of every rate above 0."""
    for place, module in model.named_modules():
        for name, value in list(vars(module).items()):
            is_rate = name == "p" if isinstance(module, torch.nn.Dropout) else "drop" in name
            if is_rate and isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
                yield place, module, name


def active_dropout(model: torch.nn.Module) -> list[str]:
    """Where the model drops out while it is trained, such as `transformer.drop.p=0.1`."""
    return [f"{place}.{name}={getattr(module, name)}" for place, module, name in _rates(model)]


def switch_off(model: torch.nn.Module) -> None:
    """Set every rate to 0; TRL's own `disable_dropout` knows layers alone."""
    for _, module, name in _rates(model):
        setattr(module, name, 0.0)
