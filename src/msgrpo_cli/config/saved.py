"""A config as a run keeps it: written as YAML, hashed, and read back with whatever has been added since.

Knows config.yaml and a checkpoint's options. Knows nothing about how a config is composed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from msgrpo_cli.common.files import SCHEMA, refuse_newer
from msgrpo_cli.errors import UsageError

from .compose import ids_of, make_importable, validated
from .schema import RunConfig
from .schema_selfplay import NAMED_SEATS, SERVED


def load_saved(path: Path, allow_modules: Collection[str] = ()) -> RunConfig:
    """The config of an earlier run. A game outside the package is imported only if its module is allowed."""
    from msgrpo_cli.games.registry import check_allowed

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise UsageError(f"{path}: cannot be read: {problem.strerror}") from problem
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise UsageError(f"{path}: broken: not YAML") from problem
    if not isinstance(data, dict):
        raise UsageError(f"{path}: broken: not a config")
    refuse_newer(path, data.pop("schema", 0), SCHEMA)
    env = data.get("env")
    if isinstance(env, dict) and isinstance(env.get("id"), str):
        for env_id in ids_of(env):
            check_allowed(env_id, allow_modules)
    make_importable([])
    try:
        return validated(data)
    except UsageError as problem:
        raise UsageError("\n".join(f"{path}: {line}" for line in str(problem).splitlines())) from problem


def dumped(config: RunConfig) -> dict[str, Any]:
    """The config as plain data, in the order of the schema."""
    return config.model_dump(mode="json")


def as_yaml(config: RunConfig) -> str:
    """The config as it may be written into a file of one's own."""
    return yaml.safe_dump(dumped(config), sort_keys=False, allow_unicode=True)


def saved_text(config: RunConfig) -> str:
    """The text of `config.yaml`; `load_saved` reads it back."""
    return f"schema: {SCHEMA}\n{as_yaml(config)}"


def anchored(config: RunConfig) -> RunConfig:
    """The same with absolute paths of model, template, adapter's base and who sits on seats: a run goes on from any
    directory."""
    model = config.model
    changed: dict[str, str | None] = {
        key: str(Path(text).expanduser().absolute())
        for key, text in (("path", model.path), ("chat_template_file", model.chat_template_file))
        if text is not None and (text.startswith(("./", "../", "~")) or Path(text).exists())
    }
    if model.adapter_base is None and model.init == "pretrained":
        changed["adapter_base"] = _base_of_adapter(Path(model.path).expanduser())
    seated = {
        section: getattr(config, section).model_copy(update={"seats": [_anchored_seat(who) for who in seats]})
        for section, seats in (("selfplay", config.selfplay.seats), ("eval", config.eval.seats))
        if seats is not None
    }
    return config.model_copy(update={"model": model.model_copy(update=changed), **seated})


def _anchored_seat(who: str) -> str:
    return who if who in NAMED_SEATS or who.startswith(SERVED) else str(Path(who).expanduser().absolute())


def _base_of_adapter(folder: Path) -> str | None:
    """The directory that a peft adapter of somebody else's names as its base; None where it names a hub id, or none."""
    if (folder / "msgrpo.json").is_file():  # a checkpoint of ours says more
        return None
    try:
        named = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return base_folder(folder, named) if isinstance(named, str) and named else None


def base_folder(adapter: Path, named: str) -> str | None:
    """The directory, or file, that an adapter means by the base it names: beside the adapter, else from here."""
    if (adapter / named).is_file() or (adapter / named / "config.json").is_file():
        return str((adapter / named).resolve())
    here = Path(named).expanduser()
    return str(here.absolute()) if here.exists() else None


def config_hash(config: RunConfig) -> str:
    """Equal for equal configs, whatever way they were written; notes count for nothing, nor do numbers of processes."""
    data = {key: value for key, value in dumped(anchored(config)).items() if key not in ("note", "parallel")}
    data["engine"].pop("note")
    for section, key, usual in (("model", "adapter_base", None), ("rollout", "prefix_memory", 512)):
        if data[section][key] == usual:  # equal to before it existed
            data[section].pop(key)
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def write_checkpoint_options(folder: Path, sections: Mapping[str, Any]) -> Path:
    """Make a checkpoint's saved sections choosable as `model=checkpoint`, which brings env and prompt along.

    `sections` holds `env`, `prompt`, and anything that lies at the top (`model`, `rollout`, `algo`, ...). The folder
    goes first in `config_dirs`; `env=...` and `prompt=...` on the command line still win.
    """
    top = {key: value for key, value in sections.items() if key not in ("env", "prompt")}
    defaults = [{f"override /{group}": "checkpoint"} for group in ("env", "prompt") if group in sections]
    files: dict[str, Any] = {group: sections[group] for group in ("env", "prompt") if group in sections}
    for group, content in {**files, "model": {"defaults": defaults, **top}}.items():
        (folder / group).mkdir(parents=True, exist_ok=True)
        header = "# @package _global_\n" if group == "model" else ""
        text = header + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (folder / group / "checkpoint.yaml").write_text(text, encoding="utf-8")
    return folder
