"""The command line: what may be typed, and which module does the work.

Knows arguments and options. Imports nothing heavy, so that `msgrpo --help` is quick: the work is imported inside the
commands.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msgrpo_cli._version import __version__
from msgrpo_cli.bench_commands import app as bench_app
from msgrpo_cli.common.console import Forgiving, say, talk_on_stderr
from msgrpo_cli.common.signals import follow_parent, heed_signals
from msgrpo_cli.completion import Shell
from msgrpo_cli.env_commands import app as env_app
from msgrpo_cli.env_commands import play
from msgrpo_cli.errors import INTERRUPTED, RunError, UsageError
from msgrpo_cli.lab_commands import app as lab_app
from msgrpo_cli.options import AllowModules, AsJson, ConfigDirs, DryRun, Overrides, Verbose, is_override, only_overrides
from msgrpo_cli.plan_commands import plan
from msgrpo_cli.report_commands import compare, report, runs_app
from msgrpo_cli.reporting import ending
from msgrpo_cli.see_commands import replay, watch
from msgrpo_cli.sweep_commands import run_or_show, sweep

if TYPE_CHECKING:
    from msgrpo_cli.config.schema import RunConfig

app = typer.Typer(
    help="Post-train language models to act over many steps in text games (MS-GRPO, arXiv 2508.10839).",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Show or check a composed config.", rich_markup_mode=None)
app.add_typer(config_app, name="config")
app.add_typer(env_app, name="env")
app.add_typer(bench_app, name="bench")
app.add_typer(lab_app, name="lab")
app.add_typer(runs_app, name="runs")


class Printed(StrEnum):
    """What Hydra's `--cfg` prints."""

    job = "job"
    hydra = "hydra"
    all = "all"


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        print(f"msgrpo {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise typer.BadParameter("a command is missing; msgrpo --help lists them")


@app.command()
def train(
    overrides: Overrides = None,
    multirun: Annotated[bool, typer.Option("--multirun", "-m", help="Run every combination, as `sweep`.")] = False,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on: directory, `last`, prefix.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="RUN|CHECKPOINT", help="Start from another run's weights.")
    ] = None,
    cfg: Annotated[Printed | None, typer.Option(help="Print the composed config, as Hydra does.")] = None,
    dry_run: DryRun = False,
    config_dir: ConfigDirs = None,
    allow_module: AllowModules = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Train a model to play a game; prints the run directory."""
    with ending(verbose):
        texts, folders = only_overrides(overrides), config_dir or []
        for option, text in (("--resume", resume), ("--from", from_)):
            if text == "":
                raise UsageError(f"{option}: empty; give a run directory, `last`, or the beginning of a run's name")
        _refuse_both({"--resume": resume, "--from": from_}, {"--resume": resume, "--multirun": multirun})
        _refuse_both({"--resume": resume, "--dry-run": dry_run}, {"--resume": resume, "--cfg": cfg})
        from msgrpo_cli.launch import run as jobs

        weights = jobs.weights_of(from_) if from_ else None
        if cfg:
            jobs.print_config(cfg.value, texts, folders)
        elif multirun:
            run_or_show(texts, folders, weights, dry_run=dry_run, as_json=as_json)
        elif dry_run:
            _show(texts, folders, as_json)
        else:
            with talk_on_stderr():
                if resume:
                    outcome = jobs.go_on(resume, texts, folders, sys.argv, allow_module or [])
                else:
                    outcome = jobs.start(texts, folders, sys.argv, weights)
            print(json.dumps(outcome, allow_nan=False) if as_json else outcome["run"])


@app.command("eval")
def evaluate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN|CHECKPOINT|HUB_ID|KEY=VALUE", help="What is scored; else the config's model."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Score every checkpoint of the run.")] = False,
    dry_run: DryRun = False,
    config_dir: ConfigDirs = None,
    allow_module: AllowModules = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Score a run, a checkpoint, a base model or a reference player on held-out starts."""
    with ending(verbose):
        others = [text for text in arguments or [] if not is_override(text)]
        if len(others) > 1:
            raise UsageError(f"{others[1]}: a second thing to score, after {others[0]}; overrides look like KEY=VALUE")
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
            return _show_evaluations([config for _, config in asked], as_json)
        from msgrpo_cli.evaluation.evaluate import evaluate_subjects

        evaluate_subjects(asked, as_json=as_json)


app.command("sweep")(sweep)
app.command("play")(play)
app.command("replay")(replay)
app.command("watch")(watch)
app.command("report")(report)
app.command("compare")(compare)
app.command("plan")(plan)


@app.command()
def doctor(
    overrides: Overrides = None,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the training of about a minute.")] = False,
    config_dir: ConfigDirs = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Check the installation, the machine and the chosen model, then train for a minute and see whether it learns."""
    with ending(verbose):
        from msgrpo_cli.config.compose import compose
        from msgrpo_cli.launch import doctor as clinic

        config = compose("train", only_overrides(overrides), config_dir or [])
        checks = clinic.examine(config, clinic.QUICK if quick else clinic.WHOLE, verbose)
        print(json.dumps(clinic.as_data(checks))) if as_json else clinic.show(checks)
        if not all(check.passed for check in checks):
            sys.exit(RunError.exit_code)


@app.command()
def export(
    target: Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT", help="A run stands for its best checkpoint.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.")],
    merge: Annotated[bool, typer.Option("--merge", help="Merge an adapter into its base: one whole model.")] = False,
    verbose: Verbose = False,
) -> None:
    """Write a model folder that plain `from_pretrained` loads, with its card; prints the folder."""
    with ending(verbose):
        from msgrpo_cli.models.export import export as write

        with talk_on_stderr():
            written = write(target, directory, merge=merge)
        print(written)


@app.command()
def rerun(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run that is done.")],
    allow_module: AllowModules = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Repeat a run from its own directory, and say whether its metrics come out the same."""
    with ending(verbose):
        from msgrpo_cli.launch.rerun import as_text
        from msgrpo_cli.launch.rerun import rerun as repeat

        with talk_on_stderr():
            outcome = repeat(run, sys.argv, allow_module or [])
        print(json.dumps(outcome, allow_nan=False) if as_json else as_text(outcome))
        if not outcome["equal"]:
            sys.exit(RunError.exit_code)


@config_app.command("show")
def config_show(
    overrides: Overrides = None, config_dir: ConfigDirs = None, as_json: AsJson = False, verbose: Verbose = False
) -> None:
    """Print the resolved config and what follows from it."""
    with ending(verbose):
        _show(only_overrides(overrides), config_dir or [], as_json)


@config_app.command("validate")
def config_validate(overrides: Overrides = None, config_dir: ConfigDirs = None, verbose: Verbose = False) -> None:
    """Check a config; prints its hash."""
    with ending(verbose):
        from msgrpo_cli.config.compose import compose
        from msgrpo_cli.config.saved import config_hash

        print(config_hash(compose("train", only_overrides(overrides), config_dir or [])))


@config_app.command("schema")
def config_schema(
    partial: Annotated[bool, typer.Option("--partial", help="For files that hold a part, as experiments do.")] = False,
    verbose: Verbose = False,
) -> None:
    """Print the JSON schema of a config, for editors."""
    with ending(verbose):
        from msgrpo_cli.config.json_schema import config_schema as schema_of

        print(json.dumps(schema_of(partial=partial), indent=2))


@app.command()
def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell that will read it.")], verbose: Verbose = False
) -> None:
    """Print the script that completes commands, keys and values: eval "$(msgrpo completion bash)"."""
    with ending(verbose):
        from msgrpo_cli.completion import script

        print(script(shell), end="")


@app.command("_complete", hidden=True)
def complete(words: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Asked by the shells' scripts: the words after `msgrpo`, the last one incomplete; prints WORD<TAB>HELP lines."""
    from msgrpo_cli.command_tree import tree_of
    from msgrpo_cli.completion import offers

    with ending(verbose=False):
        print("".join(f"{offer.word}\t{offer.help}\n" for offer in offers(tree_of(app), words or [""])), end="")


def _refuse_both(*pairs: dict[str, Any]) -> None:
    for pair in pairs:
        if all(pair.values()):
            raise UsageError(f"{' and '.join(pair)}: only one of them")


def _show(overrides: list[str], folders: list[Path], as_json: bool) -> None:
    from msgrpo_cli.config.compose import compose
    from msgrpo_cli.launch.run import check_starts, refuse_players
    from msgrpo_cli.planning import dry_run

    config = compose("train", overrides, folders)
    refuse_players(config)
    check_starts(config)
    numbers = dry_run.derived(config)
    print(json.dumps(dry_run.as_data(config, numbers)) if as_json else dry_run.as_text(config, numbers))


def _show_evaluations(configs: Sequence[RunConfig], as_json: bool) -> None:
    from msgrpo_cli.planning import dry_run

    numbers = [(config, dry_run.of_evaluation(config)) for config in configs]
    if as_json:
        data = [dry_run.as_data(*pair) for pair in numbers]
        print(json.dumps(data if len(data) > 1 else data[0]))
    else:
        print("\n---\n".join(dry_run.as_text(*pair) for pair in numbers))
        if len(numbers) > 1:
            print("\n".join(["---", *dry_run.in_all([found for _, found in numbers])]))


def main() -> None:
    """The program. Exit codes: 0 done, 1 failed, 2 nothing was started, 130 Ctrl-C, 143 SIGTERM and its like."""
    heed_signals()
    follow_parent()
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback
    if sys.stderr is not None:
        sys.stderr = Forgiving(sys.stderr)
    try:
        code = app(standalone_mode=False, prog_name="msgrpo")
    except typer.TyperException as problem:
        message = problem.format_message() if hasattr(problem, "format_message") else str(problem)
        say(message.replace("Invalid value: ", "").replace("Value error, ", ""))
        code = UsageError.exit_code
    except typer.Abort:
        code = INTERRUPTED
    except OSError as problem:  # a help text that stdout does not take
        say(f"stdout: {problem.strerror}")
        code = RunError.exit_code
    sys.exit(code)


if __name__ == "__main__":
    main()
