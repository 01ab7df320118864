"""What vLLM would be asked for, and what of TRL that rests on. vLLM itself is not run here."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from trl import GRPOTrainer
from trl.distributed import DistributedBackend
from trl.generation.vllm_client import VLLMClient
from trl.generation.vllm_generation import VLLMGeneration

from msgrpo_cli.errors import RunError
from msgrpo_cli.models.adapters import policy_of
from msgrpo_cli.models.generation import Sampling
from msgrpo_cli.training import vllm as vllm_generator
from msgrpo_cli.training.vllm import request_settings, whole_model
from support.parts import small_model

SAMPLING = Sampling(temperature=1.25, max_new_tokens=9)


def test_every_setting_is_explicit() -> None:
    settings = request_settings((0, 1, 2, 3, 4), SAMPLING, [5, 7])
    assert settings == {
        "temperature": 1.25,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "max_tokens": 9,
        "stop_token_ids": [5, 7],
        "seed": settings["seed"],
        "logprobs": 0,
    }


def test_seeds_belong_to_the_decision() -> None:
    keys = [(0, 1, group, member, step) for group in range(3) for member in range(4) for step in range(5)]
    seeds = [request_settings(key, SAMPLING, [5])["seed"] for key in keys]
    assert seeds == [request_settings(key, SAMPLING, [5])["seed"] for key in keys]
    assert len(set(seeds)) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)


def pushed(model: Any) -> dict[str, torch.Tensor]:
    """What TRL would hand to vLLM, name by name; built without vLLM."""
    generation = VLLMGeneration.__new__(VLLMGeneration)
    generation.model, generation._dist = model, DistributedBackend(Accelerator(cpu=True))
    return {name: value.clone() for name, value in generation._iter_named_params()}


def test_an_adapter_is_pushed_merged_and_under_the_names_of_the_base() -> None:
    base, _ = small_model()
    before = {name: value.clone() for name, value in base.named_parameters()}
    adapted: Any = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    whole = whole_model(adapted, policy_of(adapted))
    assert whole is adapted
    found = pushed(whole)
    assert found.keys() == before.keys()
    with torch.no_grad():
        logits = adapted(torch.tensor([[3, 14, 15, 4]])).logits
        plain, _ = small_model(seed=7)
        plain.load_state_dict(found, strict=False)
        assert torch.allclose(plain(torch.tensor([[3, 14, 15, 4]])).logits, logits, atol=1e-5)
    assert any(not torch.equal(value, before[name]) for name, value in found.items())


def test_a_model_that_is_not_trained_is_pushed_itself() -> None:
    trained, _ = small_model()
    other, _ = small_model(seed=1)
    assert whole_model(trained, trained) is trained
    assert whole_model(trained, other) is other


def test_a_log_probability_that_is_missing_is_said() -> None:
    assert vllm_generator._known([-1.0, -2.0]) == [-1.0, -2.0]
    with pytest.raises(RunError, match="not finite"):
        vllm_generator._known([-1.0, None])
    with pytest.raises(RunError, match="no log-probabilities"):
        vllm_generator._first(None)


def test_trl_takes_what_we_hand_on() -> None:
    source = inspect.getsource(vllm_generator.VLLMGenerator._start)
    given = [line.strip().partition("=")[0] for line in source.splitlines() if re.match(r" {16}\w+=", line)]
    assert len(given) == 14
    assert set(given) <= set(inspect.signature(VLLMGeneration).parameters)
    assert {"prompts", "n", "generation_kwargs"} <= set(inspect.signature(VLLMClient.generate).parameters)


@pytest.mark.parametrize(
    ("owner", "line"),
    [
        (VLLMGeneration, "model = self.model"),  # sync_weights pushes those of the model that is set
        (VLLMGeneration, "self.vllm_client = VLLMClient("),
        (VLLMGeneration, "self.vllm_client.init_communicator(device=accelerator.device)"),  # as `Engine` does
        (VLLMGeneration, "elif self._dist.fsdp_version == 2:"),  # which `Engine` sets
        (VLLMGeneration, "if self._weight_metadata is None:"),
        (VLLMClient, "self.session = requests.Session()"),
        (VLLMClient.__init__, "self.check_server(connection_timeout)"),  # before anything is asked
        (VLLMClient.generate, "self._post("),
        (VLLMGeneration, "self.llm = LLM("),
        (VLLMGeneration, 'logprobs_mode="processed_logprobs"'),
        (VLLMClient.generate, "sampling_params.update(generation_kwargs or {})"),
        (GRPOTrainer, "if self.use_vllm and self.state.global_step != self._last_loaded_step:"),
    ],
)
def test_trl_still_works_the_way_we_rely_on(owner: type, line: str) -> None:
    assert line in inspect.getsource(owner)
