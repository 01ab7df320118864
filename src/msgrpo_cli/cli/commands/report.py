"""`msgrpo report`: what runs say together, on the terminal and as one page.

Knows options. The work is in `analysis/report`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..exit import ending
from ..options import AsJson, Verbose

Targets = Annotated[
    list[str], typer.Argument(metavar="RUN|SWEEP", help="Runs and sweeps: directories, `last`, or prefixes of names.")
]
Page = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Where the page goes; else into the one sweep named, or report.html."),
]


def report(targets: Targets, html: Page = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Say what runs say together: a table and one page.

    The page works without a network: scores with intervals, curves, costs, the best and the worst episodes.
    """
    with ending(verbose):
        from msgrpo_cli.analysis.report.build import is_sweep, report_on
        from msgrpo_cli.analysis.report.page import refuse_strangers, write_html
        from msgrpo_cli.analysis.report.text import show

        paths = [_target(text) for text in targets]
        alone = paths[0] if len(paths) == 1 and is_sweep(paths[0]) else Path()
        page = html or alone / "report.html"
        refuse_strangers(page)
        found = report_on(paths)
        write_html(found, page)
        if as_json:
            print(json.dumps({**found.to_json(), "html": str(page.absolute())}, allow_nan=False))
        else:
            show(found, Console(highlight=False))
        print(f"page: {page}", file=sys.stderr)


def _target(text: str) -> Path:
    from msgrpo_cli.runs.directory import find_run

    path = Path(text)
    return path if path.is_dir() else find_run(text)
