"""Completing overrides: groups, options, keys and values of a config.

Knows config folders, the schema and TRL's fields. Asks Hydra (`hydra_app`) only for what no schema can tell: a game's
own keys, Hydra's own, and present values.
"""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from msgrpo_cli.config import trainer_fields
from msgrpo_cli.config.compose import config_dir, config_folders, option_names
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.config.schema_eval import SCENARIOS
from msgrpo_cli.errors import UsageError
from msgrpo_cli.runs.gguf import is_gguf
from msgrpo_cli.runs.pretrained import ASSETS, EMBEDDED

_OF_EVAL = ("api",)  # sections that training does not have
_ONLY_COMPOSED = ("env", "hydra")  # sections whose keys no schema holds
_NAMES_OF_GROUP = {"eval.scenarios": "env", "env.games": "env"}
_PATHS = {"model.path", "hydra.run.dir", "hydra.sweep.dir"}


def complete(word: str, before: Sequence[str], config_dirs: Sequence[Path], primary: str = "train") -> list[str]:
    """Every override that begins with `word`; `before` are those already typed."""
    try:
        folders = [config_dir(), *config_folders(config_dirs)]
    except UsageError:  # a folder that does not exist, or not yet
        folders = [config_dir()]
    sign = word[: len(word) - len(word.lstrip("+~"))]
    body = word[len(sign) :]
    composed = _Composed(primary, before, folders)
    key, given, text = body.partition("=")
    found = _values(key, text, folders, composed) if given else _keys(body, folders, composed)
    words = (f"{sign}{key}={value}" for value in found) if given else (f"{sign}{name}" for name in found)
    return sorted({word for word in words if word.startswith(sign + body)})


class _Composed:
    """The config as typed so far, composed only when it is asked for."""

    def __init__(self, primary: str, before: Sequence[str], folders: Sequence[Path]) -> None:
        self._primary, self._before, self._folders = primary, before, folders

    def has(self, section: str) -> bool:
        """Whether the primary config has a section, which not every one needs."""
        return section not in _OF_EVAL or self._primary == "eval"

    def at(self, path: Sequence[str]) -> Any:
        """What lies at a dotted key; None where there is nothing."""
        node = self._config(with_hydra=path[:1] == ["hydra"])
        for name in path:
            node = node.get(name) if isinstance(node, Mapping) else None
        return node

    def _config(self, with_hydra: bool) -> Any:
        from msgrpo_cli.config import hydra_app

        single = [_first_choice(text) for text in self._before]
        for overrides in (single, []):  # a mistake earlier in the line hides nothing of what comes after it
            try:
                return hydra_app.unresolved(
                    hydra_app.look(self._folders[0], self._primary, overrides, self._folders[1:], with_hydra)
                )
            except UsageError:
                continue
        return {}


def _first_choice(text: str) -> str:
    """`env=a,b` as `env=a`: of a sweep's values the first will do."""
    key, _, value = text.partition("=")
    return text if value.startswith(("[", "{", "'", '"')) else f"{key}={value.partition(',')[0]}"


def _keys(typed: str, folders: Sequence[Path], composed: _Composed) -> list[str]:
    """Groups and keys one level below what is typed."""
    *path, name = typed.split(".")
    if path:
        return [".".join([*path, key]) for key in _names(path, composed)]
    top = [key for key in _names([], composed) if not key.startswith("hydra") or name.startswith("h")]
    return [*_groups(typed, folders), *top]


def _groups(typed: str, folders: Sequence[Path]) -> list[str]:
    """`env=`, and `hydra/` where it is asked for."""
    parent, slash, _ = typed.rpartition("/")
    found = {
        f"{parent}{slash}{entry.name}{'=' if any(entry.glob('*.yaml')) else '/'}"
        for folder in folders
        if (folder / parent).is_dir()
        for entry in (folder / parent).iterdir()
        if entry.is_dir() and not entry.name.startswith((".", "_"))
    }
    return [name for name in found if any(name.startswith(shown) for shown in _shown(typed, found))]


def _shown(typed: str, names: Iterable[str]) -> list[str]:
    return ["hydra"] if typed.startswith("h") else [name for name in names if not name.startswith("hydra")]


def _names(path: Sequence[str], composed: _Composed) -> list[str]:
    """The keys of a section; a section of its own ends in a dot, a value in an equals sign."""
    if path[:1] == ["trainer"]:
        return [f"{name}=" for name in trainer_fields.free_fields()] if len(path) == 1 else []
    if path and path[0] in _ONLY_COMPOSED:
        section = composed.at(path)
        return [f"{key}{_end(value)}" for key, value in section.items()] if isinstance(section, Mapping) else []
    model = _section(path)
    if model is None or not composed.has(path[0] if path else ""):
        return []
    names = [
        f"{name}{_end_of_type(field.annotation)}"
        for name, field in model.model_fields.items()
        if path or composed.has(name)
    ]
    return names if path else [*names, "hydra."]


def _end(value: Any) -> str:
    return "." if isinstance(value, Mapping) and value else "="


def _end_of_type(annotation: Any) -> str:
    return "." if _as_section(annotation) or typing.get_origin(annotation) is dict else "="


def _as_section(annotation: Any) -> type[BaseModel] | None:
    """The section that a field is, or may be."""
    for part in typing.get_args(annotation) or (annotation,):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _section(path: Sequence[str]) -> type[BaseModel] | None:
    model: type[BaseModel] = RunConfig
    for name in path:
        field = model.model_fields.get(name)
        inner = _as_section(field.annotation) if field else None
        if inner is None:
            return None
        model = inner
    return model


def _values(key: str, typed: str, folders: Sequence[Path], composed: _Composed) -> list[str]:
    """What may follow `key=`; after a comma or a bracket, one value more."""
    head = typed[: max(typed.rfind(mark) for mark in ",[") + 1]
    taken = set(head.lstrip("[").split(","))
    if key and any((folder / key).is_dir() for folder in folders):
        found = option_names(key, folders)
    elif key in _NAMES_OF_GROUP:
        found = option_names(_NAMES_OF_GROUP[key], folders)
        if not head:  # a list begins, or has a name
            return [*(f"[{name}" for name in found), *(SCENARIOS if key == "eval.scenarios" else ())]
    elif key in _PATHS:
        embedded = (EMBEDDED + folder.name for folder in ASSETS.iterdir() if (folder / "config.json").is_file())
        return [*(embedded if key == "model.path" else ()), *paths(typed)]
    else:
        found = _allowed(key) or _present(key, composed)
    return [f"{head}{value}" for value in found if value not in taken]


def _allowed(key: str) -> list[str]:
    """The values of a key that has but a few."""
    *path, name = key.split(".")
    if path == ["trainer"]:
        return trainer_fields.few_values(name)
    section = _section(path)
    field = section.model_fields.get(name) if section is not None else None
    return _few(field.annotation) if field is not None else []


def _few(annotation: Any) -> list[str]:
    if annotation is bool:
        return ["true", "false"]
    if annotation is types.NoneType:
        return ["null"]
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return [str(value) for value in typing.get_args(annotation)]
    if origin in (types.UnionType, typing.Union):
        return [value for part in typing.get_args(annotation) for value in _few(part)]
    return []


def _present(key: str, composed: _Composed) -> list[str]:
    value = composed.at(key.split("."))
    if isinstance(value, bool):
        return ["true", "false"]
    simple = isinstance(value, (int, float)) or (isinstance(value, str) and value.replace("_", "").isalnum())
    return [str(value)] if simple else []


def paths(typed: str, files: bool = False) -> list[str]:
    """Directories and GGUF files (all files) whose path begins with `typed`; a directory ends in a slash."""
    name = typed.rpartition("/")[2]
    shown = typed[: len(typed) - len(name)]
    base = Path(os.path.expanduser(shown or "."))
    try:
        entries = sorted(os.scandir(base), key=lambda entry: entry.name)
    except OSError:
        return []
    fitting = [e for e in entries if e.name.startswith(name) and (name or not e.name.startswith("."))]
    return [f"{shown}{e.name}{'/' if e.is_dir() else ''}" for e in fitting if files or e.is_dir() or is_gguf(e.name)]
