"""Options that several commands share, and what counts as an override.

Knows how arguments look. Imports nothing heavy. Knows nothing about what commands do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from msgrpo_cli.errors import UsageError, shown

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Choices and values, such as env=frozenlake seed=1.")
]
ConfigDirs = Annotated[
    list[Path] | None, typer.Option("--config-dir", metavar="DIR", help="A folder of config files; may be repeated.")
]
AllowModules = Annotated[
    list[str] | None, typer.Option("--allow-module", metavar="NAME", help="A module that a saved config may import.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print exactly one JSON value.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Compose, check and print; write nothing, load no weights.")]

_OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w@./-]*=|~[A-Za-z_][\w@./-]*$")


def is_override(text: str) -> bool:
    """Whether an argument sets a key: it looks like `[+~]key=...` and no such path exists."""
    return _OVERRIDE.match(text) is not None and not os.path.exists(text)  # which calls no name too long


def only_overrides(texts: list[str] | None) -> list[str]:
    for text in texts or []:
        if not is_override(text):
            raise UsageError(f"{shown(text)}: not an override KEY=VALUE")
    return texts or []


NameAndOverrides = Annotated[
    list[str] | None, typer.Argument(metavar="ENV|KEY=VALUE", help="A name in conf/env, and values of its keys.")
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, `last`, or the beginning of a name.")]


def at_least(least: int) -> Callable[[int | None], int | None]:
    """A check of a whole number; Typer's own `min` would write `[x>=1]` into the help."""

    def checked(value: int | None) -> int | None:
        if value is not None and value < least:
            raise typer.BadParameter(f"{value} is below {least}.")
        return value

    return checked
