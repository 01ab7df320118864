from __future__ import annotations

import gc
from functools import partial
from pathlib import Path

import torch

from support.parts import played_update, small_model, trainer_for


def bytes_held() -> int:
    """By all tensors that somebody still has, but for those of torch's compiler, which hold no memory."""
    gc.collect()
    tensors = [tensor for tensor in gc.get_objects() if type(tensor) in (torch.Tensor, torch.nn.Parameter)]
    storages = [
        tensor.untyped_storage()
        for tensor in tensors
        if tensor.device.type == "cpu" and not torch._is_functional_tensor(tensor)
    ]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def test_what_is_trained_makes_room_for_the_best_checkpoint(tmp_path: Path) -> None:
    """Weights, gradients, Adam's two numbers, and the weights of the reference are gone, whoever has the models."""
    model, tokenizer = small_model()
    reference, _ = small_model()
    whole = sum(parameter.nbytes for parameter in model.parameters())
    before = bytes_held() - 2 * whole
    play = partial(played_update, model, tokenizer)
    trainer = trainer_for(tmp_path, model, tokenizer, play, reference, beta=0.1, max_steps=1)
    trainer.train()
    trained = bytes_held() - before
    trainer.give_back()
    left = bytes_held() - before
    assert trained > 4 * whole
    assert left < whole / 2, (left, trained, whole)  # the rows of the update
