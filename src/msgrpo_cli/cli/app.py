"""The command line: which commands there are, in which order `msgrpo --help` lists them, and how the program ends.

Knows the commands' modules and exit codes. Knows nothing about what a command takes or does: `commands/X.py` does, for
each command X. Imports nothing heavy, so that `msgrpo --help` is quick.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from msgrpo_cli._version import __version__
from msgrpo_cli.common.console import Forgiving, say
from msgrpo_cli.common.signals import follow_parent, heed_signals
from msgrpo_cli.errors import INTERRUPTED, RunError, UsageError

from .commands import (
    bench,
    compare,
    completion,
    config,
    doctor,
    env,
    eval,
    export,
    lab,
    plan,
    play,
    replay,
    report,
    rerun,
    runs,
    sweep,
    train,
    watch,
)


class Grouped(TyperGroup):
    """Lists the commands below the headings that they were registered with (`rich_help_panel`), in that order."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The only change with respect to TyperGroup: one section for each heading, all with one left column."""
        shown = [(name, command) for name, command in self.commands.items() if not command.hidden]
        width = max(len(name) for name, _ in shown)
        headings = dict.fromkeys(getattr(command, "rich_help_panel", None) for _, command in shown)
        for heading in headings:
            with formatter.section(heading or "Commands"):
                formatter.write_dl(
                    [
                        (name.ljust(width), command.get_short_help_str(formatter.width - 6 - width))
                        for name, command in shown
                        if getattr(command, "rich_help_panel", None) == heading
                    ]
                )


app = typer.Typer(
    cls=Grouped,
    help="Post-train language models to act over many steps in text games (MS-GRPO, arXiv 2508.10839).",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_TRAIN, _LOOK, _PLAN, _TOOLS = "Train and score", "Look at runs", "Before a run", "Tools"

app.command("train", rich_help_panel=_TRAIN)(train.train)
app.command("eval", rich_help_panel=_TRAIN)(eval.evaluate)
app.command("sweep", rich_help_panel=_TRAIN)(sweep.sweep)
app.command("rerun", rich_help_panel=_TRAIN)(rerun.rerun)
app.command("export", rich_help_panel=_TRAIN)(export.export)
app.add_typer(runs.app, name="runs", rich_help_panel=_LOOK)
app.command("watch", rich_help_panel=_LOOK)(watch.watch)
app.command("replay", rich_help_panel=_LOOK)(replay.replay)
app.command("report", rich_help_panel=_LOOK)(report.report)
app.command("compare", rich_help_panel=_LOOK)(compare.compare)
app.add_typer(env.app, name="env", rich_help_panel=_PLAN)
app.command("play", rich_help_panel=_PLAN)(play.play)
app.command("plan", rich_help_panel=_PLAN)(plan.plan)
app.command("doctor", rich_help_panel=_PLAN)(doctor.doctor)
app.add_typer(bench.app, name="bench", rich_help_panel=_PLAN)
app.add_typer(lab.app, name="lab", rich_help_panel=_PLAN)
app.add_typer(config.app, name="config", rich_help_panel=_TOOLS)
app.command("completion", rich_help_panel=_TOOLS)(completion.completion)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        print(f"msgrpo {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise typer.BadParameter("a command is missing; msgrpo --help lists them")


@app.command("_complete", hidden=True)
def _complete(words: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Asked by the shells' scripts: the words after `msgrpo`, the last one incomplete; prints WORD<TAB>HELP lines."""
    completion.complete(app, words)


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
