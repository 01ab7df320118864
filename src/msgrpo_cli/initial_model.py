"""The model that a run trains, as it is before the first update: whole, or frozen with a fresh adapter.

Knows where a run keeps a base that it made itself. Knows nothing about games, training or checkpoints.
"""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from msgrpo_cli.adapters import with_adapter
from msgrpo_cli.common.files import whole_directory
from msgrpo_cli.config.schema import ModelConfig, RunConfig
from msgrpo_cli.models import load_model
from msgrpo_cli.runs.checkpoint import is_checkpoint, own_base
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.pretrained import local_path


def initial_model(config: RunConfig, run: Run) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """Model and tokenizer, on the CPU; the same whenever a run is resumed."""
    if not config.lora.enabled:
        return load_model(config.model, config.seed, merge=True)
    base = _base(config, run)
    model, tokenizer = load_model(base, quantization=config.lora.quantization)
    return with_adapter(model, config.lora, config.seed), tokenizer


def _base(config: RunConfig, run: Run) -> ModelConfig:
    """The frozen weights. Those that nobody else keeps are saved in the run, once."""
    model, kept = config.model, own_base(run)
    if not kept.is_dir():
        if model.init == "pretrained" and not is_checkpoint(Path(local_path(model.path))):
            return model
        _keep(config, run)
    return model.model_copy(update={"path": str(kept.absolute()), "init": "pretrained", "revision": None})


def _keep(config: RunConfig, run: Run) -> None:
    made, tokenizer = load_model(config.model, config.seed, merge=True)
    made = with_adapter(made, config.lora, config.seed).unload()  # refuses wrong targets while nothing is written
    with whole_directory(own_base(run)) as folder:
        made.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
