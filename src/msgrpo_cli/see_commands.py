"""The commands `msgrpo replay` and `msgrpo watch`: what a policy did, and what a run is doing.

Knows options. Imports nothing heavy: neither of them needs the model or the game.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from msgrpo_cli.common.console import _has_person, _print_anything
from msgrpo_cli.errors import UsageError
from msgrpo_cli.options import AsJson, Verbose
from msgrpo_cli.reporting import ending

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, `last`, or the beginning of a name.")]


def replay(
    run: RunArgument,
    worst: Annotated[
        int | None, typer.Option("--worst", min=1, metavar="N", help="The N worst, by total regret.")
    ] = None,
    update: Annotated[
        int | None, typer.Option("--update", min=0, metavar="N", help="What the policy did in this update.")
    ] = None,
    ended_by: Annotated[
        str | None, typer.Option("--ended-by", metavar="REASON", help="Only episodes that ended so.")
    ] = None,
    invalid: Annotated[bool, typer.Option("--invalid", help="Only with an answer that holds no action.")] = False,
    loop: Annotated[bool, typer.Option("--loop", help="Only where an observation came again.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="At most N episodes.")] = None,
    evaluation: Annotated[
        str | None, typer.Option("--eval", metavar="NAME", help="Of an evaluation, such as best, base, validation-60.")
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Print plainly.")] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write one HTML page.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Step through recorded episodes: observation, answer, action, reward, and beside it the optimal action."""
    with ending(verbose):
        ways = [name for name, given in (("--text", text), ("--html", html), ("--json", as_json)) if given]
        if len(ways) > 1:
            raise UsageError(f"{' and '.join(ways)}: only one of them")
        from msgrpo_cli.analysis.replay import replay as work
        from msgrpo_cli.analysis.replay.selection import Selection

        _print_anything()
        opened = work.open_replay(run, evaluation, Selection(update, ended_by, invalid, loop, worst, limit))
        if as_json:
            work.print_json(opened)
        elif html is not None:
            work.write_page(opened, html)
            work.tell(opened.notes())
            print(html)
        elif not opened.chosen.places or text or not _has_person():
            work.print_text(opened)
            work.tell(opened.notes())
        else:
            work.show_in_terminal(opened)
            work.tell(opened.notes())


def watch(
    run: RunArgument,
    once: Annotated[bool, typer.Option("--once", help="Show where the run stands now, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Where it stands now, as exactly one JSON value.")] = False,
    verbose: Verbose = False,
) -> None:
    """Follow a run: curves, phase, last episodes, time left. Ends when the run does; Ctrl-C leaves it alone."""
    with ending(verbose):
        from msgrpo_cli.analysis.watch import watch as work
        from msgrpo_cli.runs.directory import find_run

        _print_anything()
        found = find_run(run)
        if as_json:
            print(json.dumps(work.as_data(found), allow_nan=False))
        elif once:
            work.show_once(found)
        else:
            work.follow(found)
