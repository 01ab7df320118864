"""Where a run computes and in what: as asked, as the hardware allows, never silently. torch's hardware is played."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.models.precision import autocast_dtype, check_precision, device_for, precision_name
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.training.settings import training_arguments
from support.commands import run

SMOKE = ["experiment=smoke", "max_updates=1", "eval.episodes=4", "algo.groups_per_update=1", "eval.every=0"]


def machine(monkeypatch: pytest.MonkeyPatch, *, capability: int = 0, mps: bool = False) -> None:
    """A CUDA GPU of that capability (0: none), or Apple's accelerator."""

    def has_bf16(including_emulation: bool = True) -> bool:
        return capability >= 8 or (including_emulation and capability > 0)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability > 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", has_bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (capability, 0))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("capability", "mps", "asked", "device", "name"),
    [
        (0, False, {}, "cpu", "float32"),
        (0, True, {}, "mps", "float32"),
        (7, False, {}, "cuda", "float32"),
        (8, False, {}, "cuda", "bf16"),
        (8, False, {"bf16": False}, "cuda", "float32"),
        (8, False, {"use_cpu": True}, "cpu", "float32"),
        (7, False, {"fp16": True}, "cuda", "fp16"),
        (8, False, {"fp16": True, "bf16": None}, "cuda", "fp16"),
    ],
)
def test_the_precision_of_each_machine(
    monkeypatch: pytest.MonkeyPatch, capability: int, mps: bool, asked: dict[str, bool], device: str, name: str
) -> None:
    machine(monkeypatch, capability=capability, mps=mps)
    found = device_for(asked)
    assert (found.type, precision_name(autocast_dtype(asked, found), torch.float32)) == (device, name)


def test_weights_in_half_precision_are_called_so() -> None:
    assert precision_name(None, torch.bfloat16) == "bf16"


@pytest.mark.parametrize(
    ("capability", "mps", "overrides", "line"),
    [
        (0, False, ["trainer.bf16=true"], "trainer.bf16=true: needs a GPU that has bf16, this run computes on cpu"),
        (0, True, ["trainer.bf16=true"], "trainer.bf16=true: needs a GPU that has bf16, this run computes on mps"),
        (7, False, ["trainer.bf16=true"], "trainer.bf16=true: needs a GPU that has bf16, this run computes on cuda"),
        (0, False, ["trainer.fp16=true"], "trainer.fp16=true: needs a CUDA GPU, this run computes on cpu"),
        (0, True, ["trainer.fp16=true"], "trainer.fp16=true: needs a CUDA GPU, this run computes on mps"),
        (8, False, ["trainer.fp16=true", "trainer.use_cpu=true"], "trainer.fp16=true: needs a CUDA GPU, this run comp"),
        (7, False, ["trainer.tf32=true"], "trainer.tf32=true: needs a GPU that has tf32 (Ampere or later), this run"),
        (8, False, ["trainer.fp16=true", "trainer.bf16=true"], "trainer.fp16=true: together with trainer.bf16=true"),
        (8, False, ["trainer.fp16=true", "model.dtype=float16"], "trainer.fp16=true: needs weights of full precision"),
        (
            0,
            True,
            ["lora.enabled=true", "lora.quantization=8bit"],
            "lora.quantization=8bit: needs a CUDA GPU, this run computes on mps; leave it out",
        ),
    ],
)
def test_what_a_machine_cannot_do_is_refused(
    monkeypatch: pytest.MonkeyPatch, capability: int, mps: bool, overrides: list[str], line: str
) -> None:
    machine(monkeypatch, capability=capability, mps=mps)
    with pytest.raises(UsageError) as caught:
        check_precision(compose("train", overrides))
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize("overrides", [[], ["trainer.bf16=true"], ["trainer.fp16=true"], ["trainer.tf32=true"]])
def test_what_a_gpu_can_do_is_not_refused(monkeypatch: pytest.MonkeyPatch, overrides: list[str]) -> None:
    machine(monkeypatch, capability=8)
    check_precision(compose("train", overrides))


def test_without_bitsandbytes_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, capability=8)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
    with pytest.raises(UsageError, match=r"lora.quantization=4bit: bitsandbytes is not installed; pip install 'msgrpo"):
        check_precision(compose("train", ["lora.enabled=true", "lora.quantization=4bit"]))


def test_trl_is_told_the_same(tmp_path: Path) -> None:
    arguments = training_arguments(compose("train", []), Run(tmp_path), torch.device("cpu"))
    assert (arguments.bf16, arguments.fp16, arguments.use_cpu, arguments.device.type) == (False, False, True, "cpu")


def test_the_precision_is_said_and_recorded_and_a_resume_elsewhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "train", *SMOKE, "trainer.use_cpu=true", "hydra.run.dir=here") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("computing in float32 on cpu, weights in float32; 448 608 of 448 608 parameters are trained") == 1
    record = json.loads((tmp_path / "here" / "run.json").read_text())
    assert (record["precision"], record["device"], record["status"]) == ("float32", "cpu", "done")
    config = tmp_path / "here" / "config.yaml"
    config.write_text(config.read_text().replace("bf16: null", "bf16: true"))
    assert run(monkeypatch, "train", "--resume", "here", "max_updates=2") == 2
    assert "trainer.bf16=true: needs a GPU that has bf16" in capsys.readouterr().err
    assert json.loads((tmp_path / "here" / "run.json").read_text()) == record
