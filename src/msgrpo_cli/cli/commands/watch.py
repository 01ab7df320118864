"""`msgrpo watch`: what a run is doing.

Knows options. The work is in `analysis/watch`; neither the model nor the game is needed.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from msgrpo_cli.common.console import print_anything

from ..exit import ending
from ..options import RunArgument, Verbose


def watch(
    run: RunArgument,
    once: Annotated[bool, typer.Option("--once", help="Show where the run stands now, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Where it stands now, as exactly one JSON value.")] = False,
    verbose: Verbose = False,
) -> None:
    """Follow a run: curves, phase, last episodes, time left.

    Ends when the run does; Ctrl-C leaves the run alone.
    """
    with ending(verbose):
        from msgrpo_cli.analysis.watch import watch as work
        from msgrpo_cli.runs.directory import find_run

        print_anything()
        found = find_run(run)
        if as_json:
            print(json.dumps(work.as_data(found), allow_nan=False))
        elif once:
            work.show_once(found)
        else:
            work.follow(found)
