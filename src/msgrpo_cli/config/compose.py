"""The config of a run: found, composed, a mixture's games filled in, validated.

Knows where `conf/` lies and that a composed config must be a `RunConfig` whose trainer block TRL takes and whose
`env` block the game takes. Knows nothing about Hydra (`hydra_app` does), models or training. Every mistake is a
UsageError with one line per key, and happens before anything is written.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from msgrpo_cli.common.secrets import refuse_in_config
from msgrpo_cli.common.text import reason_of
from msgrpo_cli.errors import UsageError, shown

from . import engines, trainer_fields
from .ignored import ignored
from .problems import missing_values, validation_mistakes
from .schema import MIX, RunConfig, stages

_ANYTHING = " xq 7351"
"""What a model might say, and no game reads as an action."""
_PACKAGE = Path(str(files("msgrpo_cli")))


def config_dir() -> Path:
    """The folder of our own config files: the checkout's where there is one, else the package's copy."""
    checkout = _PACKAGE.parent.parent / "conf"
    return checkout if (checkout / "train.yaml").is_file() else _PACKAGE / "conf"


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
    from . import hydra_app

    folders = config_folders(config_dirs)
    make_importable(folders)
    config = validated(
        with_games(hydra_app.plain(hydra_app.look(config_dir(), primary, overrides, folders)), config_dirs)
    )
    if lines := ignored(primary, config, overrides):
        raise UsageError("\n".join(lines))
    return config


def lost_system(config: RunConfig, typed: Sequence[str], config_dirs: Sequence[Path] = ()) -> str | None:
    """A line where the system text of the prompt that `typed` chooses is not the config's; None where all is as typed.

    Another file may set it: `model=tiny` has a system text of its own, which is none.
    """
    from . import hydra_app

    given = dict(text.lstrip("+").partition("=")[::2] for text in typed)
    if "prompt" not in given or "prompt.system" in given:
        return None
    alone = hydra_app.look(
        config_dir(), "train", ["model=any", f"prompt={given['prompt']}"], config_folders(config_dirs)
    )
    if hydra_app.unresolved(alone)["prompt"].get("system") == config.prompt.system:
        return None
    now = "nothing" if config.prompt.system is None else f"{config.prompt.system.strip()[:60]!r}"
    setter = (
        f"experiment={given['experiment']} or model={config.model.name}"
        if "experiment" in given
        else (f"model={config.model.name}")
    )
    return (
        f"prompt={given['prompt']}: its prompt.system is not read: {setter} puts {now} in its place; leave "
        f"prompt={given['prompt']} out, take another model, or give the text itself (prompt.system=...)"
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

        from .seats import seat_problems

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
        problems = problems or seat_problems(config)
        problems = problems or _prompt_problems(config) or _success_problems(config) or _fallback_problems(config)
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

    stop, curriculum = config.stop, config.curriculum
    if (stop.success is None and curriculum.key is None) or make_game(config.env).declares_success():
        return []
    none = f"{config.env.name} declares no success" if not config.env.mixed else "one of the games declares no success"
    waiting = []
    if stop.success is not None:
        waiting.append(f"stop.success={stop.success:g}: {none}; stop.score takes a reward")
    if curriculum.key is not None:
        waiting.append(f"curriculum.key={curriculum.key}: {none}, so no value is ever passed")
    return waiting


def _prompt_problems(config: RunConfig) -> list[str]:
    """Whether the prompt's templates can be rendered for a state of the game."""
    from msgrpo_cli.games.registry import make_game

    from .prompt import prompt_of

    game = make_game(config.env)
    game.reset(seed=0)
    try:
        prompt_of(config).check(game, config.prompt.history)
    except ValueError as problem:
        return [f"prompt: {problem}; it may use rules, actions, legal, max_steps and observation"]
    if (begun := config.prompt.answer_prefix) is not None:
        for env in config.env.games:
            game = make_game(env)
            game.reset(seed=0)
            read = game.parse(begun)
            if read is not None and game.parse(f"{begun}{_ANYTHING}") == read:
                return [
                    f"prompt.answer_prefix={shown(begun)}: {env.name} reads it as the whole action {read}, whatever "
                    "the model says then; end it before the action, as in prompt.answer_prefix='<action>'"
                ]
    return []


def _fallback_problems(config: RunConfig) -> list[str]:
    """Whether there are moves of which one can take the place of an invalid answer."""
    from msgrpo_cli.games.registry import make_game
    from msgrpo_cli.rollout.play import LISTED

    if config.algo.invalid_action not in LISTED:
        return []
    return [
        f"algo.invalid_action={config.algo.invalid_action}: {env.name} takes free text and lists no moves; give noop "
        "or end, or let its legal() return those that are known"
        for env in config.env.games
        if not make_game(env).lists_moves()
    ]


def expanded(env: Mapping[str, Any], block_of: Callable[[str], Mapping[str, Any]]) -> dict[str, Any]:
    """The block with every named game replaced by its own block; other blocks as they are.

    `block_of(name)` composes one game alone. Games that are blocks already, as in a saved config, stay. Raises
    UsageError for what is no list of games.
    """
    if env.get("id") != MIX:
        return dict(env)
    games = env.get("games")
    if not (isinstance(games, list) and games and all(isinstance(game, (str, Mapping)) for game in games)):
        raise UsageError(f"env.games={games}: must be a list of games, such as env.games=[frozenlake,snake_8]")
    if strange := [game for game in games if isinstance(game, str) and not re.fullmatch(r"[\w.-]+", game)]:
        raise UsageError(f"env.games={games}: '{strange[0]}' is no name in conf/env")
    blocks = [dict(block_of(game)) if isinstance(game, str) else dict(game) for game in games]
    if any(block.get("id") == MIX for block in blocks):
        raise UsageError(f"env.games={games}: a mixture cannot hold another")
    longest = max(int(block.get("max_steps", 1)) for block in blocks)
    if env.get("max_steps") not in (None, longest):
        raise UsageError(f"env.max_steps={env['max_steps']}: each game of a mixture keeps its own; leave it out")
    return {**env, "games": blocks, "max_steps": longest}


def ids_of(env: Mapping[str, Any]) -> list[str]:
    """Every `env.id` that a block names, those of its games among them."""
    inner = [game["id"] for game in env.get("games") or () if isinstance(game, Mapping) and "id" in game]
    return [str(env["id"]), *map(str, inner)]
