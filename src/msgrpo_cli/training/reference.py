"""The KL reference: the policy at update 0, which `trainer.beta` holds the trained one to.

Knows where a run keeps it, how it is made and read back, and what TRL wants of it. Knows nothing about losses.
"""

from __future__ import annotations

import copy

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import GRPOConfig
from trl.trainer.utils import add_fused_lm_head

from msgrpo_cli.common.files import whole_directory
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.models.dropout import switch_off
from msgrpo_cli.models.loading import load_model
from msgrpo_cli.runs import checkpoint
from msgrpo_cli.runs.directory import Run

from .display import Display


def kl_reference(
    config: RunConfig, run: Run, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, display: Display
) -> PreTrainedModel:
    """The policy at update 0, saved once, so that a resumed run has the same one; made anew where it is damaged.

    `model` holds the weights of update 0, also where a run goes on: the trainer loads the checkpoint later. An adapter
    needs no reference: it is switched off for it.
    """
    kept = run.reference
    damage = checkpoint.damage(kept, read="all") if kept.exists() else "missing"
    if damage is None:
        stored = config.model.model_copy(update={"path": str(kept), "init": "pretrained"})
        loaded, _ = load_model(stored)
        loaded.to(model.device)  # type: ignore[arg-type]
        return loaded
    if kept.exists():
        display.say(f"warning: {damage}; made anew from the base")
    with whole_directory(kept) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        checkpoint.describe(folder, checkpoint.metadata_of(config, run, 0, None))
    return copy.deepcopy(model)


def as_trl_reads_it(reference: PreTrainedModel, args: GRPOConfig, temperature: float) -> PreTrainedModel:
    """The same model with what TRL gives to the one that it builds itself: no dropout, and its output layer."""
    if args.disable_dropout:
        switch_off(reference)
    add_fused_lm_head(reference, temperature=temperature, cast_lm_head_to_fp32=args.cast_lm_head_to_fp32)
    return reference
