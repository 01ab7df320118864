"""The architectures that ship with the package have the sizes of the real models, counted on the meta device."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from msgrpo_cli.config.compose import compose
from msgrpo_cli.models.adapters import with_adapter
from msgrpo_cli.planning.architecture import adapter_count, count_of_architecture, parameter_count
from support.places import ROOT

FOLDER = ROOT / "src/msgrpo_cli/assets/architectures"
SIZES = {
    "qwen0.5b": 0.494e9,
    "qwen1.5b": 1.544e9,
    "qwen3b": 3.086e9,
    "qwen7b": 7.616e9,
    "qwen14b": 14.77e9,
    "qwen32b": 32.76e9,
    "qwen72b": 72.7e9,
    "smollm2-135m": 134.5e6,
    "smollm2-360m": 361.8e6,
    "llama3.2-1b": 1.236e9,
    "llama3.2-3b": 3.213e9,
    "qwen2-30m": 30.95e6,
}


def test_every_architecture_has_a_typed_in_size() -> None:
    assert sorted(SIZES) == sorted(file.stem for file in FOLDER.glob("*.json"))


@pytest.mark.parametrize("name", SIZES)
def test_parameters_agree_with_the_meta_device_and_with_the_real_model(name: str) -> None:
    settings = json.loads((FOLDER / f"{name}.json").read_text())
    config = AutoConfig.for_model(**settings)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == count_of_architecture(settings)
    assert counted == pytest.approx(SIZES[name], rel=1e-3)


@pytest.mark.parametrize("name", SIZES)
def test_a_config_names_the_model_of_its_architecture(name: str) -> None:
    assert parameter_count(compose("train", [f"model={name}"]).model) == pytest.approx(SIZES[name], rel=1e-3)


def test_another_path_is_unknown_until_loaded() -> None:
    assert parameter_count(compose("train", ["model=qwen3b", "model.path=somebody/else"]).model) is None
    assert parameter_count(compose("train", ["model.path=somebody/else"]).model) is None


@pytest.mark.parametrize("name", ["qwen0.5b", "llama3.2-1b", "smollm2-135m", "qwen72b"])
@pytest.mark.parametrize(
    "targets", ["all-linear", "[q_proj,mlp.down_proj]", "'model\\.layers\\.[01]\\.self_attn\\..*'"]
)
def test_parameters_of_an_adapter_agree_with_peft(name: str, targets: str) -> None:
    overrides = [f"model={name}", "lora.enabled=true", "lora.r=4", f"lora.target_modules={targets}"]
    config = compose("train", overrides)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(**json.loads((FOLDER / f"{name}.json").read_text()))
        )
        adapted = with_adapter(model, config.lora, seed=0)
    counted = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    assert adapter_count(config.model, config.lora) == counted > 0


def test_parameters_of_an_adapter_are_unknown_where_the_layers_are() -> None:
    config = compose("train", ["model=any", "model.path=owner/unknown", "lora.enabled=true"])
    assert adapter_count(config.model, config.lora) is None
