"""Two real ranks that share out the weights of a model, and what TRL would push from each. Started by torchrun."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from trl.distributed import DistributedBackend

from msgrpo_cli.models.adapters import policy_of
from msgrpo_cli.training.parallel.ranks import Ranks
from msgrpo_cli.training.parallel.sharding import is_shared_out, share_out
from msgrpo_cli.training.vllm_engine import Engine
from support.parts import small_model


def trained(*, adapter: bool) -> Any:
    """The same on every rank."""
    model, _ = small_model()
    if not adapter:
        return model
    torch.manual_seed(3)
    return get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))


def pushed(model: Any) -> dict[str, torch.Tensor]:
    """By the names that vLLM is told."""
    engine: Any = Engine.__new__(Engine)
    engine.model, engine.mode, engine.accelerator = None, "nowhere", Accelerator(cpu=True)
    engine._dist = DistributedBackend(engine.accelerator)
    engine.push(model)
    return {name: value.detach().clone() for name, value in engine._iter_named_params()}


def main() -> None:
    folder, ranks = Path(sys.argv[1]), Ranks.joined()
    found = {}
    for adapter in (False, True):
        model = trained(adapter=adapter)
        share_out(policy_of(model), None)
        assert is_shared_out(policy_of(model))
        with torch.no_grad():  # after which the outermost weights would stay gathered
            model(torch.tensor([[3, 14, 15, 4]]))
        found[f"adapter={adapter}"] = pushed(model)
        with torch.no_grad():
            found[f"adapter={adapter}, logits"] = {"": model(torch.tensor([[3, 14, 15, 4]])).logits}
    torch.save(found, folder / f"rank-{ranks.rank}.pt")


if __name__ == "__main__":
    main()
