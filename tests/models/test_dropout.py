"""Dropout is found and switched off wherever an architecture keeps it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from msgrpo_cli.models.dropout import active_dropout, switch_off, switched_off
from support.small_models import adapter_dropping_out, attention_dropping_out, llama
from support.zoo import ZOO


@pytest.mark.parametrize("make", [attention_dropping_out, adapter_dropping_out])
def test_rates_are_found_in_layers_and_in_attributes(make: Any) -> None:
    model = make()
    assert active_dropout(model) and all(place.endswith("=0.1") for place in active_dropout(model))
    switch_off(model)
    assert active_dropout(model) == [] == active_dropout(llama())


@pytest.mark.parametrize("name", ["jitter_noise", "input_jitter_noise", "moe_jitter_eps"])
def test_jitter_counts_and_a_threshold_of_the_same_family_does_not(name: str) -> None:
    router = torch.nn.Linear(2, 2)
    setattr(router, name, 0.3)
    router.router_jitter_noise = 0.01  # type: ignore[assignment]
    model = torch.nn.Sequential(router, torch.nn.AlphaDropout(0.2))
    assert active_dropout(model) == [f"0.{name}=0.3", "1.p=0.2"]
    with switched_off(model):
        assert active_dropout(model) == []
    assert active_dropout(model) == [f"0.{name}=0.3", "1.p=0.2"]
    switch_off(model)
    assert active_dropout(model) == [] and router.router_jitter_noise == 0.01


@pytest.mark.parametrize("name", ["gpt-2", "opt"])
def test_without_it_training_mode_computes_what_evaluation_does(name: str) -> None:
    model = ZOO[name].made()[0]
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    ids = torch.arange(12)[None] + 20
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model(ids).logits, model(ids).logits)
    switch_off(model)
    assert torch.equal(model(ids).logits, model.eval()(ids).logits)
