"""The shape of a model from its config.json: sizes of real instances, and what is said where it is not known."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig as PeftLoraConfig
from peft.tuners.tuners_utils import _check_lora_target_modules_mamba
from transformers import AutoConfig, AutoModelForCausalLM

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.planning.architecture import adapter_count, adapter_size, architecture_of, matrices_of
from msgrpo_cli.planning.dry_run import derived
from support.zoo import ZOO

SIZES = {
    "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 200, "head_dim": 12, "max_position_embeddings": 64,
}  # fmt: skip


def folder_with(path: Path, **settings: object) -> str:
    (path / "config.json").write_text(json.dumps(settings))
    return str(path)


@pytest.mark.parametrize("kind", ["qwen2", "llama", "qwen3", "mistral", "gemma2"])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_the_instance(kind: str, tied: bool, tmp_path: Path) -> None:
    settings = {**SIZES, "model_type": kind, "tie_word_embeddings": tied}
    folder = folder_with(tmp_path, **settings)
    shape = architecture_of(compose("train", ["model=any", f"model.path={folder}"]).model)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings))
    assert shape is not None
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (shape.queries, shape.keys, shape.tied) == (48, 24, tied)
    linear = sum(p.numel() for name, p in model.named_parameters() if name.endswith("_proj.weight"))
    assert linear <= shape.in_layers < linear * 1.1  # norms and biases


@pytest.mark.parametrize(("name", "parameters", "layers"), [("tiny", 448_608, 4), ("qwen3b", 3_085_938_688, 36)])
def test_what_ships_is_known_offline(name: str, parameters: int, layers: int) -> None:
    model = compose("train", [f"model={name}"]).model
    for quick in (False, True):
        shape = architecture_of(model, quick=quick)
        assert shape is not None
        assert (shape.parameters, shape.layers) == (parameters, layers)


def test_adapters_by_hand(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, **{**SIZES, "model_type": "llama"})
    config = compose("train", ["model=any", f"model.path={folder}", "lora.enabled=true", "lora.r=2"])
    shape = architecture_of(config.model)
    assert shape is not None
    one_layer = 2 * ((48 + 48) * 2 + (48 + 24) * 2 + (48 + 80) * 3)
    assert adapter_size(matrices_of(shape), config.lora) == 3 * one_layer
    few = config.lora.model_copy(update={"target_modules": ["q_proj"]})
    assert adapter_size(matrices_of(shape), few) == 3 * 2 * (48 + 48)


def test_unknown_models_are_refused_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    elsewhere = compose("train", ["model=any", "model.path=nobody/nothing"]).model
    assert architecture_of(elsewhere, quick=True) is None
    with pytest.raises(UsageError, match=r"model\.path=nobody/nothing: .*a local folder"):
        architecture_of(elsewhere)
    with pytest.raises(UsageError, match="no model here"):
        architecture_of(elsewhere.model_copy(update={"path": str(tmp_path)}))
    folder = folder_with(tmp_path, model_type="llama", hidden_size=3)
    with pytest.raises(UsageError, match="has no num_hidden_layers"):
        architecture_of(elsewhere.model_copy(update={"path": folder}))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match="not JSON"):
        architecture_of(elsewhere.model_copy(update={"path": folder}))


MAMBA = {"mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h"}


@pytest.mark.parametrize("kind", sorted(MAMBA))
@pytest.mark.parametrize("targets", ["all-linear", "[in_proj,out_proj]", "'.*(in|out)_proj'"])
def test_an_adapter_that_peft_refuses_is_refused_before_anything_is_loaded(
    kind: str, targets: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "hidden_size": 32}))
    chosen = ["model=any", f"model.path={tmp_path}", "lora.enabled=true"]
    with pytest.raises(UsageError, match=r"^lora\.target_modules=.*peft refuses it: .*out_proj"):
        derived(compose("train", [*chosen, f"lora.target_modules={targets}"]))
    config = compose("train", [*chosen, "lora.target_modules=[in_proj]"])
    assert adapter_count(config.model, config.lora) is None


def test_peft_refuses_as_the_plan_does(tmp_path: Path) -> None:
    settings = PeftLoraConfig()
    for kind in (*MAMBA, "granitemoehybrid", "lfm2", "opt"):
        module = torch.nn.Module()
        module.config = SimpleNamespace(model_type=kind)  # type: ignore[assignment]
        refused = pytest.raises(ValueError, match="incompatible") if kind in MAMBA else nullcontext()
        with refused:
            _check_lora_target_modules_mamba(settings, module, "out_proj")
    folder = ZOO["mamba-2"].save(tmp_path / "mamba")
    config = compose("train", ["model=any", f"model.path={folder}", "lora.enabled=true"])
    with pytest.raises(UsageError, match="peft refuses it"):
        adapter_count(config.model, config.lora)
    hybrid = ZOO["granite-hybrid"].save(tmp_path / "hybrid")
    config = compose("train", ["model=any", f"model.path={hybrid}", "lora.enabled=true"])
    assert adapter_count(config.model, config.lora) is None
