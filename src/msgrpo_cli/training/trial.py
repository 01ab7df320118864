"""What could only fail at the first checkpoint is tried at the start: a save and a load of all but the bulk of weights.

Knows transformers' files of a model and of a tokenizer. Knows nothing about runs or when checkpoints are taken.
"""

from __future__ import annotations

import tempfile
from itertools import islice

from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from msgrpo_cli.common.text import one_line
from msgrpo_cli.errors import UsageError
from msgrpo_cli.models.adapters import policy_of

_WORDS = "<action>up</action> one, two\n3"


def try_saving(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, path: str) -> str | None:
    """What had to be set right, in words; None where nothing had.

    Raises UsageError where the model at `path` could not be saved as a checkpoint and read again.
    """
    note = _set_right(policy_of(model), path)
    with tempfile.TemporaryDirectory(prefix="msgrpo-trial-") as folder:
        try:
            few = None if isinstance(model, PeftModel) else dict(islice(model.state_dict().items(), 1))
            model.save_pretrained(folder, state_dict=few)
            tokenizer.save_pretrained(folder)
            if few is not None:
                AutoConfig.from_pretrained(folder)
                if model.generation_config is not None:
                    GenerationConfig.from_pretrained(folder)
            again = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            raise UsageError(f"model.path={path}: could not be saved as a checkpoint: {one_line(error)}") from error
    if again.encode(_WORDS) != tokenizer.encode(_WORDS) or again.chat_template != tokenizer.chat_template:
        raise UsageError(f"model.path={path}: its tokenizer reads otherwise once it was saved and read again")
    return note


def _set_right(model: PreTrainedModel, path: str) -> str | None:
    """transformers saves a generation config that it just read, but no longer once anything in it was changed, as
    trainers do: then it must hold no setting of sampling without `do_sample`. What is trained here is sampled."""
    config = model.generation_config
    if config is None:
        return None
    try:
        config.validate(strict=True)
        return None
    except ValueError as problem:
        before, config.do_sample = config.do_sample, True
        try:
            config.validate(strict=True)
        except ValueError:
            config.do_sample = before
            raise UsageError(
                f"model.path={path}: its generation_config.json could not be saved with a checkpoint: "
                f"{one_line(problem)}; correct it there"
            ) from problem
    return "generation config: it has settings of sampling, so checkpoints say do_sample=true"
