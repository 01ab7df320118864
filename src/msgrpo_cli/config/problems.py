"""Mistakes in a config, in one line each: dotted key, value, reason, nearest right spelling.

Knows the errors of Hydra, OmegaConf and pydantic by their attributes. Imports none of them but pydantic's types.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from msgrpo_cli.common.text import did_you_mean, one_line, reason_of

from . import trainer_fields

_LAUNCHERS = {"joblib": "joblib", "ray": "ray", "submitit_slurm": "slurm", "submitit_local": "slurm"}
"""Which extra brings a launcher."""
_OF_OTHERS = {
    "parallel.patience": "parallel=none is one process, which waits for none; give parallel=ddp, or leave it out"
}
"""Keys that some choices of their group have not."""


def missing_option(config_file: str | None, options: Sequence[str] | None) -> str:
    """`env=frozenlak`: a choice that no config folder holds."""
    group, _, name = (config_file or "").removesuffix(".yaml").rpartition("/")
    if not group:
        return f"no primary config '{name}'"
    if group == "hydra/launcher" and name in _LAUNCHERS:
        return f"{group}={name}: its plugin is missing; pip install 'msgrpo[{_LAUNCHERS[name]}]'"
    known = sorted(options or [])
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{group}={near[0]}'?" if near else ""
    own = "; a game of your own: --config-dir DIR, or the variable MSGRPO_CONFIG_DIR" if group == "env" else ""
    return f"{group}={name}: no '{name}' in config group '{group}'{hint} (available: {', '.join(known)}){own}"


def composition_mistake(problem: BaseException, overrides: Sequence[str]) -> str:
    """An override that does not fit the composed config."""
    cause = problem.__cause__
    key = getattr(cause, "full_key", None)
    if not key:
        return one_line(problem)
    given = {text.lstrip("+~").partition("=")[0]: text for text in overrides}
    text = given.get(key) or next((text for name, text in given.items() if name.startswith(f"{key}.")), key)
    if key in _OF_OTHERS:
        return f"{text}: {_OF_OTHERS[key]}"
    parent = getattr(cause, "parent_node", None)
    prefix = key.rpartition(".")[0]
    known = [f"{prefix}.{name}" if prefix else str(name) for name in parent] if parent is not None else []
    if prefix == "trainer":
        known += [f"trainer.{name}" for name in trainer_fields.free_fields()]
    if type(cause).__name__ not in ("ConfigAttributeError", "ConfigKeyError"):
        return f"{text}: {one_line(cause) if cause else one_line(problem)}"
    hint = f"; what is not listed there is added with +{text}" if key in known else did_you_mean(key, known)
    if not hint and prefix == "env" and "=" in text:
        hint = f"; a key that your game takes and its file does not list is added with +{text}"
    return f"{text}: unknown key '{key}'{hint}"


def missing_values(data: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every key that still waits for a value."""
    lines: list[str] = []
    for name, value in data.items():
        key = f"{prefix}{name}"
        if value == "???":
            lines.append(f"{key}: missing; give {key}=...")
        elif isinstance(value, Mapping):
            lines += missing_values(value, f"{key}.")
    return lines


def validation_mistakes(problem: ValidationError, data: Mapping[str, Any], model: type[BaseModel]) -> list[str]:
    """One line per key that pydantic refuses."""
    lines: dict[str, str] = {}
    for error in problem.errors():
        path = _real_path(error["loc"], data)
        key = ".".join(path)
        reason = reason_of(error["msg"])
        if error["type"] == "extra_forbidden":
            siblings = _known_keys(path[:-1], model)
            line = f"{key}: unknown key{did_you_mean(key, siblings)}"
        elif error["type"] == "missing":
            line = f"{key}: missing; give {key}=..."
        elif error["type"] == "model_type" and (keys := _known_keys(path, model)):
            line = f"{key}{_value(error['input'])}: a section of keys; set one of them, such as {keys[0]}=..."
        else:
            line = f"{key}{_value(error['input'])}: {reason}{_choice_hint(error)}{_several(key, error['input'])}"
        if error["input"] != "???":
            lines.setdefault(key, line)
    return list(lines.values())


def _real_path(loc: Sequence[int | str], data: Mapping[str, Any]) -> list[str]:
    """The part of a pydantic location that names a key: it goes on with the alternatives of a union."""
    path: list[str] = []
    node: Any = data
    for step in loc:
        path.append(str(step))
        if not isinstance(node, Mapping) or step not in node:
            return path if isinstance(node, Mapping) else path[:-1]
        node = node[step]
    return path


def _known_keys(path: Sequence[str], model: type[BaseModel]) -> list[str]:
    for step in path:
        annotation = model.model_fields[step].annotation if step in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return [".".join([*path, name]) for name in model.model_fields]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ""
    return f"={'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"


def _choice_hint(error: Any) -> str:
    if error["type"] != "literal_error" or not isinstance(error["input"], str):
        return ""
    expected = str(error["ctx"]["expected"]).replace("'", "").replace(" or ", ", ")
    return did_you_mean(error["input"], expected.split(", "))


def _several(key: str, value: Any) -> str:
    if not isinstance(value, list):
        return ""
    return f"; to run each value use msgrpo sweep {key}={','.join(map(str, value))}"
