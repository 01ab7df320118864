"""The JSON schema of a config, for editors: every key with its type, TRL's fields included.

Knows the schema of a run and TRL's field names. Knows nothing about files. What only the game, the model or a
comparison of keys can tell is not in it; `msgrpo config validate` has the last word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import trainer_fields
from .schema import RunConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_JSON_TYPES = {
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "str": "string",
    "dict": "object",
    "list": "array",
    "null": "null",
}


def config_schema(*, partial: bool = False) -> dict[str, Any]:
    """The schema of a whole composed config, or of a `partial` one such as an experiment, whose keys may be absent."""
    schema = RunConfig.model_json_schema()
    schema["properties"]["trainer"] = _trainer_schema()
    if partial:
        for section in (schema, *schema["$defs"].values()):
            section.pop("required", None)
        schema["properties"] = {"defaults": _DEFAULTS_LIST, "hydra": {"type": "object"}, **schema["properties"]}
    return {"$schema": DIALECT, **schema, "title": "msgrpo config"}


_DEFAULTS_LIST = {
    "type": "array",
    "description": "Hydra's defaults list, such as `- override /env: frozenlake`.",
    "items": {"type": ["string", "object"]},
}


def _trainer_schema() -> dict[str, Any]:
    known = trainer_fields.fields()
    return {
        "type": "object",
        "description": "Fields of TRL's GRPOConfig, verbatim.",
        "additionalProperties": False,
        "properties": {name: _field_schema(name, known[name]) for name in trainer_fields.free_fields()},
    }


def _field_schema(name: str, field: Mapping[str, Any]) -> dict[str, Any]:
    types = [_JSON_TYPES[kind] for kind in field["types"]]
    if trainer_fields.may_be_null(name) and "null" not in types:
        types.append("null")
    schema: dict[str, Any] = {"type": types, "default": field["default"]}
    if field.get("choices") and "string" in types:
        others = [kind for kind in types if kind != "string"]
        schema = (
            {"anyOf": [{"enum": field["choices"]}, {"type": others}], "default": field["default"]}
            if others
            else {
                "enum": field["choices"],
                "default": field["default"],
            }
        )
    least = trainer_fields.least(name)
    return schema if least is None else {**schema, "minimum": least}
