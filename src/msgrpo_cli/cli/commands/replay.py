"""`msgrpo replay`: what a policy did, step by step.

Knows options. The work is in `analysis/replay`; neither the model nor the game is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgrpo_cli.common.console import has_person, print_anything
from msgrpo_cli.errors import UsageError

from ..exit import ending
from ..options import AsJson, RunArgument, Verbose, at_least


def replay(
    run: RunArgument,
    worst: Annotated[
        int | None, typer.Option("--worst", callback=at_least(1), metavar="N", help="The N worst, by total regret.")
    ] = None,
    update: Annotated[
        int | None,
        typer.Option("--update", callback=at_least(0), metavar="N", help="What the policy did in this update."),
    ] = None,
    ended_by: Annotated[
        str | None, typer.Option("--ended-by", metavar="REASON", help="Only episodes that ended so.")
    ] = None,
    invalid: Annotated[bool, typer.Option("--invalid", help="Only with an answer that holds no action.")] = False,
    loop: Annotated[bool, typer.Option("--loop", help="Only where an observation came again.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", callback=at_least(1), metavar="N", help="At most N episodes.")
    ] = None,
    evaluation: Annotated[
        str | None, typer.Option("--eval", metavar="NAME", help="Of an evaluation, such as best, base, validation-60.")
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Print plainly.")] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write one HTML page.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Step through recorded episodes, worst first if asked.

    Observation, answer, action, reward, and beside it the optimal action.
    """
    with ending(verbose):
        ways = [name for name, given in (("--text", text), ("--html", html), ("--json", as_json)) if given]
        if len(ways) > 1:
            raise UsageError(f"{' and '.join(ways)}: only one of them")
        from msgrpo_cli.analysis.replay import replay as work
        from msgrpo_cli.analysis.replay.selection import Selection

        print_anything()
        opened = work.open_replay(run, evaluation, Selection(update, ended_by, invalid, loop, worst, limit))
        if as_json:
            work.print_json(opened)
        elif html is not None:
            work.write_page(opened, html)
            work.tell(opened.notes())
            print(html)
        elif not opened.chosen.places or text or not has_person():
            work.print_text(opened)
            work.tell(opened.notes())
        else:
            work.show_in_terminal(opened)
            work.tell(opened.notes())
