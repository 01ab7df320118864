"""`msgrpo rerun`: the same run once more, from its own directory.

Knows arguments. The work is `launch/rerun`.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from msgrpo_cli.common.console import talk_on_stderr
from msgrpo_cli.errors import RunError

from ..exit import ending
from ..options import AllowModules, AsJson, Verbose


def rerun(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run that is done.")],
    allow_module: AllowModules = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Repeat a run; say whether its metrics come out the same."""
    with ending(verbose):
        from msgrpo_cli.launch.rerun import as_text
        from msgrpo_cli.launch.rerun import rerun as repeat

        with talk_on_stderr():
            outcome = repeat(run, sys.argv, allow_module or [])
        print(json.dumps(outcome, allow_nan=False) if as_json else as_text(outcome))
        if not outcome["equal"]:
            sys.exit(RunError.exit_code)
