"""Writes `config/trainer_fields.json`, the table of GRPOConfig's fields, from the live class.

Knows annotations and defaults of dataclasses. Knows nothing about what the fields do, or who owns them here.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from typing import Any

from trl import GRPOConfig

from msgrpo_cli.config.trainer_fields import FILE


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


if __name__ == "__main__":
    FILE.write_text(json.dumps(generate(), indent=1) + "\n", encoding="utf-8")
