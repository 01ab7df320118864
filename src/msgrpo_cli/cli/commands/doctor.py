"""`msgrpo doctor`: does everything that a run needs work here?

Knows options. The checks are in `launch/doctor`.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from msgrpo_cli.errors import RunError

from ..exit import ending
from ..options import AsJson, ConfigDirs, Overrides, Verbose, only_overrides


def doctor(
    overrides: Overrides = None,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the trainings, which take longest.")] = False,
    config_dir: ConfigDirs = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Check installation, machine and model; train for a trial.

    Every check is made, whatever the others said; the training must learn, by one process and by two.
    """
    with ending(verbose):
        from msgrpo_cli.common.checklist import as_data, examine, show
        from msgrpo_cli.config.compose import compose
        from msgrpo_cli.launch.doctor import QUICK, WHOLE

        config = compose("train", only_overrides(overrides), config_dir or [])
        checks = examine(config, QUICK if quick else WHOLE, verbose)
        print(json.dumps(as_data(checks))) if as_json else show(checks)
        if not all(check.passed for check in checks):
            sys.exit(RunError.exit_code)
