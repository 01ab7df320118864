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

_WORDS = "<action>up</action> one, two\n3"


def try_saving(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, path: str) -> None:
    """Raises UsageError where the model at `path` could not be saved as a checkpoint and read again."""
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
