"""`msgrpo eval`: score a run, a checkpoint, a base model or a reference player.

Knows options. What is scored is found by `evaluation/targets`, the work is `evaluation/evaluate`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from msgrpo_cli.common.importing import importing
from msgrpo_cli.errors import UsageError

from ..exit import ending
from ..options import AllowModules, AsJson, ConfigDirs, DryRun, Verbose, is_override

if TYPE_CHECKING:
    from msgrpo_cli.config.schema import RunConfig


def evaluate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN|CHECKPOINT|HUB_ID|KEY=VALUE",
            help="A run (`last`), checkpoint, model folder or hub id; else the config's model.",
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Score every checkpoint of the run.")] = False,
    dry_run: DryRun = False,
    config_dir: ConfigDirs = None,
    allow_module: AllowModules = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Score a run, a checkpoint, a base model or a player.

    On held-out starts, beside random and best known play and the base. What a run scores is kept in it, as
    eval/NAME.json. Such as: msgrpo eval last env=frozenlake_slippery, or msgrpo eval policy=random env=snake_20.
    """
    with ending(verbose):
        others = [text for text in arguments or [] if not is_override(text)]
        if len(others) > 1:
            raise UsageError(f"{others[1]}: a second thing to score, after {others[0]}; overrides look like KEY=VALUE")
        if others and not others[0].strip():
            raise UsageError("nothing to score: the name is empty; give a run, a checkpoint or a model")
        from msgrpo_cli.evaluation.targets import asked_for

        asked = asked_for(
            others[0] if others else None,
            [text for text in arguments or [] if is_override(text)],
            all_checkpoints=every,
            config_dirs=config_dir or [],
            allow_modules=allow_module or [],
            reach=not dry_run,
        )
        if dry_run:
            return _show([config for _, config in asked], as_json)
        with importing():
            from msgrpo_cli.evaluation.evaluate import evaluate_subjects

        evaluate_subjects(asked, as_json=as_json)


def _show(configs: Sequence[RunConfig], as_json: bool) -> None:
    from msgrpo_cli.config.ignored import read_by_eval
    from msgrpo_cli.planning import dry_run
    from msgrpo_cli.planning.prompts import measured_prompt

    numbers = [
        (config, dry_run.of_evaluation(config) | ({"first_prompt_tokens": measured_prompt(config)} if plays else {}))
        for config in configs
        for plays in [config.policy == "model"]
    ]
    if as_json:
        data = [dry_run.as_data(*pair, read=read_by_eval(pair[0])) for pair in numbers]
        print(json.dumps(data if len(data) > 1 else data[0]))
    else:
        print("\n---\n".join(dry_run.as_text(*pair, read=read_by_eval(pair[0])) for pair in numbers))
        if len(numbers) > 1:
            print("\n".join(["---", *dry_run.in_all([found for _, found in numbers])]))
