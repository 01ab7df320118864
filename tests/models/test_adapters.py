"""Adapters beside a small random model: what they change, what they leave alone, what the trainer makes of them."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.schema import LoraConfig
from msgrpo_cli.models.adapters import name_base, policy_of, read_adapter, with_adapter
from support.parts import agent, played_update, small_model, trainer_for

IDS = torch.tensor([[3, 5, 7, 9, 11]])


def lora(**changes: object) -> LoraConfig:
    return compose("train", ["lora.enabled=true"]).lora.model_copy(update=changes)


def stirred(model: PeftModel) -> PeftModel:
    """The half of the adapter that starts at zero, made random: as after training."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return model


def test_a_fresh_adapter_changes_nothing_and_follows_from_its_seed() -> None:
    model, _ = small_model()
    before = model(IDS).logits
    first = with_adapter(copy.deepcopy(model), lora(), seed=4)
    assert torch.equal(first(IDS).logits, before)
    again, other = (with_adapter(copy.deepcopy(model), lora(), seed=seed) for seed in (4, 5))
    weights = [m.state_dict() for m in (first, again, other)]
    name = next(name for name in weights[0] if "lora_A" in name)
    assert torch.equal(weights[0][name], weights[1][name]) and not torch.equal(weights[0][name], weights[2][name])


def test_saved_and_read_back_beside_the_base_or_merged_into_it(tmp_path: Path) -> None:
    model, _ = small_model()
    untouched, base = copy.deepcopy(model), copy.deepcopy(model)
    adapted = stirred(with_adapter(model, lora(target_modules=["q_proj", "mlp.up_proj"]), seed=0))
    adapted.save_pretrained(tmp_path)
    name_base(tmp_path, "owner/base", "v1")
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("owner/base", "v1")
    assert settings["target_modules"] == ["mlp.up_proj", "q_proj"]
    expected = adapted(IDS).logits
    assert (expected - untouched(IDS).logits).abs().max() > 0.01
    assert torch.equal(read_adapter(copy.deepcopy(base), tmp_path, merge=False)(IDS).logits, expected)
    merged = read_adapter(base, tmp_path, merge=True)
    assert torch.allclose(merged(IDS).logits, expected, atol=1e-5)
    assert type(merged) is type(untouched) and all(weight.requires_grad for weight in merged.parameters())
    assert merged.state_dict().keys() == untouched.state_dict().keys()


def test_the_policy_plays_with_the_adapter_and_leaves_the_model_s_own_settings(tmp_path: Path) -> None:
    model, tokenizer = small_model()
    plain = played_update(copy.deepcopy(model), tokenizer)
    adapted = stirred(with_adapter(model, lora(), seed=0))
    inner = policy_of(adapted)
    own = inner.generation_config
    answers = [step.completion.token_ids for e in played_update(inner, tokenizer).episodes for step in e.steps]
    assert answers != [step.completion.token_ids for episode in plain.episodes for step in episode.steps]
    assert inner.generation_config is own and agent(inner, tokenizer) is not None


def test_the_trainer_s_gradient_reference_and_gap(tmp_path: Path) -> None:
    """beta > 0: no second model, and the reference's log-probabilities are those of the base."""
    model, tokenizer = small_model()
    base = copy.deepcopy(model)
    adapted = stirred(with_adapter(model, lora(), seed=0))
    frozen = {name: tensor.clone() for name, tensor in adapted.state_dict().items() if "lora_" not in name}
    trainer = trainer_for(
        tmp_path, adapted, tokenizer, lambda update: played_update(policy_of(adapted), tokenizer, update), beta=0.1
    )
    assert trainer.ref_model is None and "ref" not in adapted.peft_config
    trainer.train()
    metrics = trainer.update_metrics()
    assert metrics["kl"] > 1e-3 and metrics["logprob_gap_max"] < 1e-4 and metrics["grad_norm"] > 0
    after = adapted.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in frozen.items())
    with adapted.disable_adapter():
        assert torch.equal(adapted(IDS).logits, base(IDS).logits)


def test_a_whole_model_still_needs_its_reference(tmp_path: Path) -> None:
    model, tokenizer = small_model()
    with pytest.raises(ValueError, match="needs a reference"):
        trainer_for(tmp_path, model, tokenizer, lambda update: played_update(model, tokenizer, update), beta=0.1)
