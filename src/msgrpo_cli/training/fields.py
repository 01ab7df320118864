"""Writes `config/trainer_fields.json`, the table of GRPOConfig's fields, from the live class, and `docs/trainer.md`,
which tells what becomes of each.

Knows annotations and defaults of dataclasses, and the tables of owners, reasons and engines. Knows nothing about what
the fields do.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from typing import Any

from trl import GRPOConfig

from msgrpo_cli.config.compose import config_dir
from msgrpo_cli.config.engines import NEVER, SWITCHES, readers
from msgrpo_cli.config.trainer_fields import FILE
from msgrpo_cli.config.trainer_refused import REASONS, owner

_PAGE = """# Fields of the trainer block

`trainer.*` takes the fields of TRL's `GRPOConfig`, verbatim. This page has all of them: one that is taken does exactly
what it does in TRL, one that is not says why. It is written by `python -m msgrpo_cli.training.fields` from the tables
that the program itself reads. Loss, gradient and weights after a few updates are held against plain TRL on the same
rows, for every field that enters them (`test_trainer_loss_fields.py`, `test_trainer_optimizer_fields.py`).

| field | TRL's default | |
|---|---|---|
"""
_NOTES = {
    "disable_dropout": "also where functions read a rate, and the jitter of mixtures' routers; TRL knows layers alone",
    "fp16": "not run: no GPU was at hand",
    "bf16": "null: where the device has it",
    "learning_rate": "null: the default of the model or of its adapter",
    "lr_scheduler_kwargs": "refused where `lr_scheduler_type` is constant or constant_with_warmup, which read none",
    "mask_truncated_completions": "cut answers do not enter the loss; what divides it does not count their tokens, "
    "but their rows where TRL's own loss does; cut is what no end of turn ends, those of the chat template and of "
    "model.end_of_turn included, which TRL would not know",
    "per_device_train_batch_size": "the most distinct rows of a micro-batch; it does not change the gradient",
    "router_aux_loss_coef": "rows are then read separately; the auxiliary loss is a mean over micro-batches, as in TRL",
    "tf32": "not run: no GPU was at hand",
    "top_entropy_quantile": "the quantile is that of all tokens of the update, where TRL takes each micro-batch's",
    "use_bias_correction_kl": "true in TRL: the KL term is multiplied by the ratio, which changes its gradient",
    "use_liger_kernel": "not run: no GPU was at hand",
    "warmup_steps": "refused where `lr_scheduler_type` is constant, which has no warm-up",
}
"""What is worth knowing about a field that is taken."""


def generate() -> dict[str, dict[str, Any]]:
    """Name to types, default and choices of every field that the constructor takes."""
    hints = typing.get_type_hints(GRPOConfig)
    return {
        field.name: _described(hints[field.name], field)
        for field in sorted(dataclasses.fields(GRPOConfig), key=lambda field: field.name)
        if field.init
    }


def _described(hint: Any, field: dataclasses.Field[Any]) -> dict[str, Any]:
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    alternatives = typing.get_args(hint) if union else (hint,)
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    described: dict[str, Any] = {
        "types": sorted({kind for alternative in alternatives if (kind := _kind(alternative)) is not None}),
        "default": default.value if isinstance(default, enum.Enum) else default,
    }
    for alternative in alternatives:
        if isinstance(alternative, enum.EnumMeta):
            members: list[enum.Enum] = list(alternative)
            described["choices"] = sorted(str(member.value) for member in members)
    return described


def _kind(hint: Any) -> str | None:
    """The JSON type of one alternative of an annotation; None for an object that no YAML can hold."""
    origin = typing.get_origin(hint) or hint
    if origin is typing.Literal:
        return _kind(type(typing.get_args(hint)[0]))
    if hint is types.NoneType:
        return "null"
    if isinstance(hint, enum.EnumMeta):
        return "str"
    return origin.__name__ if origin in (int, float, bool, str, dict, list) else None


def page() -> str:
    """`docs/trainer.md`: every field, TRL's default, and what becomes of it here."""
    lines = []
    for name, field in generate().items():
        if (who := owner(name)) is not None:
            says = f"refused: it belongs to {who}"
        elif name in REASONS:
            says = f"refused, but for TRL's default: {REASONS[name]}"
        elif name in NEVER:
            says = f"refused, but for TRL's default: {NEVER[name]}"
        elif name in SWITCHES:
            says = "decided by " + " or ".join(f"`engine={engine}`" for engine in SWITCHES[name])
        else:
            engines = " or ".join(f"`engine={engine}`" for engine in readers(name))
            says = "; ".join(filter(None, ["taken", engines and f"read by {engines}", _NOTES.get(name)]))
        lines.append(f"| `{name}` | `{json.dumps(field['default'])}` | {says} |")
    return _PAGE + "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(json.dumps(generate(), indent=1) + "\n", encoding="utf-8")
    (config_dir().parent / "docs" / "trainer.md").write_text(page(), encoding="utf-8")
