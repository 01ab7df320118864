"""What weights were trained on, as it lies beside them in a checkpoint.

Knows checkpoints and one file of hashes. Knows nothing about how they are made or what they are compared with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.config.schema_prompt import PromptConfig
from msgrpo_cli.rollout.trained_prompts import TrainedPrompts

from .checkpoint import is_checkpoint, read_metadata
from .pretrained import is_local, local_path

_FILE = "trained_prompts.npy"


def write_trained_prompts(folder: Path, trained: TrainedPrompts | None) -> None:
    """Put what a run has trained on beside its weights; nothing where that is not known."""
    if trained is not None:
        np.save(folder / _FILE, trained.hashes)


def trained_prompts(checkpoint: Path, prompt: PromptConfig) -> TrainedPrompts | None:
    """What the weights of a checkpoint were trained on.

    None where it does not say, or was trained on states that were shown in another way than `prompt` shows them.
    """
    stored, file = PromptConfig.model_validate(read_metadata(checkpoint)["prompt"]), checkpoint / _FILE
    if (stored.observation, stored.history) != (prompt.observation, prompt.history) or not file.is_file():
        return None
    return TrainedPrompts(prompt.history, np.load(file))


def trained_before(config: RunConfig) -> TrainedPrompts | None:
    """What the model that a run starts from was trained on by us: nothing, unless it is a checkpoint."""
    path = Path(local_path(config.model.path))
    if is_local(config.model.path) and config.model.init == "pretrained" and is_checkpoint(path):
        return trained_prompts(path, config.prompt)
    return TrainedPrompts(config.prompt.history)
