"""The config of a run: found, composed, validated, saved, read back.

Knows where `conf/` lies and that a composed config must be a `RunConfig` whose trainer block TRL takes and whose
`env` block the game takes. Knows nothing about Hydra (`hydra_app` does), models or training. Every mistake is a
UsageError with one line per key, and happens before anything is written.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from msgrpo_cli import engines, trainer_fields
from msgrpo_cli.common.files import SCHEMA, refuse_newer
from msgrpo_cli.common.secrets import refuse_in_config
from msgrpo_cli.common.text import reason_of
from msgrpo_cli.curriculum import stages
from msgrpo_cli.errors import UsageError
from msgrpo_cli.explain import missing_values, validation_mistakes
from msgrpo_cli.mixture import expanded, ids_of
from msgrpo_cli.schema import RunConfig

_HERE = Path(__file__).resolve().parent
_STARTS = 32  # in a mixture some games may declare success and others none


def config_dir() -> Path:
    """The folder of our own config files: the checkout's where there is one, else the package's copy."""
    checkout = _HERE.parent.parent / "conf"
    return checkout if (checkout / "train.yaml").is_file() else _HERE / "conf"


def config_folders(config_dirs: Sequence[Path]) -> list[Path]:
    """Users' folders in order of precedence: those named on the command line, then MSGRPO_CONFIG_DIR's."""
    named = [Path(text) for text in os.environ.get("MSGRPO_CONFIG_DIR", "").split(os.pathsep) if text]
    folders = [folder.absolute() for folder in [*config_dirs, *named]]
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such config folder")
    return folders


def option_names(group: str, folders: Sequence[Path]) -> list[str]:
    """The names that a config group has in these folders."""
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})


def options_of(group: str, config_dirs: Sequence[Path] = ()) -> list[str]:
    """The names that may be chosen from a config group, users' own among them."""
    return option_names(group, [config_dir(), *config_folders(config_dirs)])


def compose(primary: str, overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> RunConfig:
    """Compose `primary` ("train" or "eval") with overrides; the first of `config_dirs` wins. Raises UsageError."""
    from msgrpo_cli import hydra_app

    folders = config_folders(config_dirs)
    make_importable(folders)
    return validated(
        with_games(hydra_app.plain(hydra_app.look(config_dir(), primary, overrides, folders)), config_dirs)
    )


def with_games(data: dict[str, Any], config_dirs: Sequence[Path]) -> dict[str, Any]:
    """A composed config whose mixture of games holds their blocks; each game is composed and validated alone."""
    if not isinstance(env := data.get("env"), Mapping):
        return data

    def block_of(name: str) -> dict[str, Any]:
        try:
            return compose("train", [f"env={name}"], config_dirs).env.model_dump()
        except UsageError as problem:
            raise UsageError(f"env.games={env['games']}: {problem}") from problem

    return {**data, "env": expanded(env, block_of)}


def make_importable(folders: Sequence[Path]) -> None:
    """Let games be imported from the current directory and from config folders, after everything installed."""
    for folder in (Path.cwd(), *folders):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def validated(data: Mapping[str, Any]) -> RunConfig:
    """Plain data as a RunConfig, with the trainer block checked against TRL's fields and `env` against its game."""
    refuse_in_config(data)
    block = data.get("trainer")
    problems = missing_values({key: value for key, value in data.items() if key != "trainer"})
    config = None
    try:
        config = RunConfig.model_validate(dict(data))
    except ValidationError as problem:
        problems += validation_mistakes(problem, data, RunConfig)
    if isinstance(block, Mapping):
        problems += trainer_fields.problems(block)
    if config is not None and not problems:
        from msgrpo_cli.games.registry import env_problems, play_problems

        observation = config.prompt.observation
        try:
            harder = stages(config.env, config.curriculum) if config.curriculum.key else []
        except ValidationError as problem:
            found = problem.errors()[0]
            raise UsageError(
                f"curriculum.values: {config.curriculum.key}={found['input']}: {reason_of(found['msg'])}"
            ) from problem
        for env in [config.env, *harder]:
            problems = problems or env_problems(env) or play_problems(env, observation)
        problems = problems or _prompt_problems(config) or _success_problems(config)
        problems += engines.problems(config)
    if config is None or problems:
        raise UsageError("\n".join(problems))
    return _with_learning_rate(config)


def _with_learning_rate(config: RunConfig) -> RunConfig:
    """`trainer.learning_rate=null` means the default of the model or of its adapter; from here on it is a number."""
    if config.trainer.get("learning_rate") is not None or config.default_learning_rate is None:
        return config
    return config.model_copy(update={"trainer": {**config.trainer, "learning_rate": config.default_learning_rate}})


def _success_problems(config: RunConfig) -> list[str]:
    """What waits for successes in a game that declares none."""
    from msgrpo_cli.games.registry import make_game

    none = f"{config.env.name} declares no success"
    stop, curriculum = config.stop, config.curriculum
    waiting = []
    if stop.success is not None:
        waiting.append(f"stop.success={stop.success:g}: {none}; stop.score takes a reward")
    if curriculum.key is not None:
        waiting.append(f"curriculum.key={curriculum.key}: {none}, so no value is ever passed")
    if waiting:
        game = make_game(config.env)
        for seed in range(_STARTS):
            game.reset(seed=seed)
            if game.success is not None:
                return []
    return waiting


def _prompt_problems(config: RunConfig) -> list[str]:
    """Whether the prompt's templates can be rendered for a state of the game."""
    from msgrpo_cli.games.registry import make_game
    from msgrpo_cli.rollout.prompt import PromptTemplate

    game = make_game(config.env)
    game.reset(seed=0)
    try:
        PromptTemplate(config.prompt.system, config.prompt.user).check(game)
    except ValueError as problem:
        return [f"prompt: {problem}; it may use rules, actions, max_steps and observation"]
    return []


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


def config_hash(config: RunConfig) -> str:
    """Equal for equal configs, whatever way they were written; notes count for nothing."""
    data = {key: value for key, value in dumped(config).items() if key != "note"}
    data["engine"].pop("note")
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
