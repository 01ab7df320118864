"""`msgrpo config show|validate|schema`: a composed config, and what follows from it.

Knows arguments. Configs are composed by `config/compose`, what follows from one is told by `planning/dry_run`.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from ..exit import ending
from ..options import AsJson, ConfigDirs, Overrides, Verbose, only_overrides

app = typer.Typer(help="Show or check a composed config.", rich_markup_mode=None)


@app.command("show")
def show(
    overrides: Overrides = None, config_dir: ConfigDirs = None, as_json: AsJson = False, verbose: Verbose = False
) -> None:
    """Print the resolved config and what follows from it."""
    with ending(verbose):
        show_config(only_overrides(overrides), config_dir or [], as_json)


@app.command("validate")
def validate(overrides: Overrides = None, config_dir: ConfigDirs = None, verbose: Verbose = False) -> None:
    """Check a config; prints its hash."""
    with ending(verbose):
        from msgrpo_cli.config.compose import compose
        from msgrpo_cli.config.saved import config_hash

        print(config_hash(compose("train", only_overrides(overrides), config_dir or [])))


@app.command("schema")
def schema(
    partial: Annotated[bool, typer.Option("--partial", help="For files that hold a part, as experiments do.")] = False,
    verbose: Verbose = False,
) -> None:
    """Print the JSON schema of a config, for editors."""
    with ending(verbose):
        from msgrpo_cli.config.json_schema import config_schema

        print(json.dumps(config_schema(partial=partial), indent=2))


def show_config(
    overrides: list[str], folders: list[Path], as_json: bool, source: Path | None = None, *, measure: bool = False
) -> None:
    """What `config show` and `train --dry-run` print; the latter refuses what a run would, and measures prompts, which
    takes seconds.

    `source`: the weights that `--from` names.
    """
    from msgrpo_cli.launch.nodes import srun_line
    from msgrpo_cli.launch.run import check_starts, composed, refuse_players, sound
    from msgrpo_cli.planning import dry_run
    from msgrpo_cli.planning.prompts import measured_prompt

    if measure:
        config = sound(overrides, folders, source)
    else:
        config = composed(overrides, folders, source)
        refuse_players(config)
        check_starts(config)
    numbers = dry_run.derived(config) | ({"first_prompt_tokens": measured_prompt(config)} if measure else {})
    if measure and config.parallel.nodes > 1:
        numbers["started_by"] = shlex.join(srun_line(config, Path("RUN", ".ranks", "start")))
    print(json.dumps(dry_run.as_data(config, numbers)) if as_json else dry_run.as_text(config, numbers))
