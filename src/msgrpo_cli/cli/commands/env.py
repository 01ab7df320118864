"""`msgrpo env list|show|check`: the games, as they are, as a model reads them, and whether they keep their promises.

Knows options and how results are shown. Games are looked at by `planning/preview` and `rollout/game_check`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from msgrpo_cli.common.console import talk_on_stderr
from msgrpo_cli.errors import RunError, UsageError

from ..exit import ending
from ..options import AsJson, ConfigDirs, NameAndOverrides, Verbose, is_override

if TYPE_CHECKING:
    from msgrpo_cli.config.schema import RunConfig

app = typer.Typer(rich_markup_mode=None, help="List, show or check the games.")

_SHOWN = 4  # actions of a game in the list
_FORMS = {
    "gym": "any gymnasium environment with discrete actions",
    "babyai": "any level of BabyAI",
    "textarena": "any single-player game of TextArena",
    "textarena_seats": "all players of any game of TextArena",
    "openspiel": "a seat of any game of OpenSpiel",
    "openspiel_seats": "all seats of any game of OpenSpiel",
    "mix": "several games in one run",
}
"""Files of conf/env that are there to be filled in: examples, not games of their own."""
_EXTRAS = {
    "babyai": ("minigrid", "minigrid", "minigrid"),
    "textarena": ("TextArena", "textarena", "textarena"),
    "textarena_seats": ("TextArena", "textarena", "textarena"),
    "openspiel": ("OpenSpiel", "pyspiel", "openspiel"),
    "openspiel_seats": ("OpenSpiel", "pyspiel", "openspiel"),
}
"""Of those that need an extra: what that brings, its module, and the extra."""


@app.command("list")
def list_games(config_dir: ConfigDirs = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """List every game with what random and best known play score."""
    with ending(verbose):
        from msgrpo_cli.config.compose import compose, options_of
        from msgrpo_cli.planning.preview import described

        folders = config_dir or []
        print("playing every game", file=sys.stderr, flush=True)
        with talk_on_stderr():
            names = [name for name in options_of("env", folders) if name not in _FORMS]
            games = [described(compose("train", [f"env={name}"], folders).env) for name in names]
        if as_json:
            print(json.dumps(games, allow_nan=False))
        else:
            _show_list(games)
            print("\nTo be filled in:", *(f"env={name}: {what}" for name, what in _FORMS.items()), sep="\n")


@app.command()
def show(
    arguments: NameAndOverrides = None, config_dir: ConfigDirs = None, as_json: AsJson = False, verbose: Verbose = False
) -> None:
    """Show the prompt that the chosen model reads, exactly.

    And one random episode, with the rewards of evaluation.
    """
    with ending(verbose):
        config = game_config(arguments, config_dir)
        with talk_on_stderr():
            from msgrpo_cli.planning.preview import as_text, shown

            found = shown(config)
        print(json.dumps(found, allow_nan=False) if as_json else as_text(found))


@app.command()
def check(
    arguments: NameAndOverrides = None, config_dir: ConfigDirs = None, as_json: AsJson = False, verbose: Verbose = False
) -> None:
    """Check a game, or every game, against its promises.

    Does it keep what its texts say, and what the method needs? Ends with 1 where one does not.
    """
    with ending(verbose):
        from msgrpo_cli.common.checklist import as_data
        from msgrpo_cli.common.checklist import show as show_checks
        from msgrpo_cli.config.compose import options_of
        from msgrpo_cli.rollout.game_check import check_game

        named = any(not is_override(text) or text.startswith("env=") for text in arguments or [])
        names = [None] if named else _installed(options_of("env", config_dir or []))
        results = []
        for name in names:
            config = game_config([*([name] if name else []), *(arguments or [])], config_dir)
            print(f"checking {config.env.name}", file=sys.stderr, flush=True)
            with talk_on_stderr():
                checks = check_game(config.env)
            results.append({"env": config.env.name, **as_data(checks)})
            if not as_json:
                show_checks(checks)
        if as_json:
            print(json.dumps(results[0] if named else results, allow_nan=False))
        if not all(result["passed"] for result in results):
            sys.exit(RunError.exit_code)


def _installed(names: Sequence[str]) -> list[str]:
    """Without those that need an extra which is not there; they are told."""
    missing = [name for name in names if name in _EXTRAS and importlib.util.find_spec(_EXTRAS[name][1]) is None]
    for name in missing:
        print(
            f"not checked: {name} needs {_EXTRAS[name][0]}: pip install 'msgrpo[{_EXTRAS[name][2]}]'", file=sys.stderr
        )
    return [name for name in names if name not in missing]


def game_config(arguments: Sequence[str] | None, folders: list[Path] | None, primary: str = "train") -> RunConfig:
    """The config of the one game that a command line names."""
    from msgrpo_cli.config.compose import compose

    names = [text for text in arguments or [] if not is_override(text)]
    if len(names) > 1:
        raise UsageError(f"{names[1]}: a second game, after {names[0]}; overrides look like KEY=VALUE")
    overrides = [text for text in arguments or [] if is_override(text)]
    return compose(primary, [*(f"env={name}" for name in names), *overrides], folders or [])


def _show_list(games: Sequence[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    for title in ("actions", "steps", "starts"):
        table.add_column(title, overflow="fold")
    for title in ("random", "best known", ""):
        table.add_column(title, justify="right" if title else "left")
    for game in games:
        best = game["optimal_score"]
        table.add_row(
            game["name"],
            _shown(game["actions"]),
            str(game["max_steps"]),
            game["initial_states"],
            *("-" if score is None else f"{score:.3f}" for score in (game["random_score"], best)),
            "exact" if game["optimal_is_exact"] else "",
        )
    Console().print(table)


def _shown(actions: Sequence[str] | None) -> str:
    if actions is None:
        return "free text"
    return ", ".join(actions[:_SHOWN]) + (", ..." if len(actions) > _SHOWN else "")
