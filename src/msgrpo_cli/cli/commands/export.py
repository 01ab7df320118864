"""`msgrpo export`: a model folder for others.

Knows arguments. The work is `models/export`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgrpo_cli.common.console import talk_on_stderr
from msgrpo_cli.common.importing import importing

from ..exit import ending
from ..options import Verbose


def export(
    target: Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT", help="A run stands for its best checkpoint.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.")],
    merge: Annotated[bool, typer.Option("--merge", help="Merge an adapter into its base: one whole model.")] = False,
    verbose: Verbose = False,
) -> None:
    """Write a model folder that plain `from_pretrained` loads.

    With it go its card, its scores, its curve and the commands that made it. Prints the folder.
    """
    with ending(verbose):
        with importing():
            from msgrpo_cli.models.export import export as write

        with talk_on_stderr():
            written = write(target, directory, merge=merge)
        print(written)
