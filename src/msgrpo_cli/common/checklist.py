"""TODO docstring of common.checklist."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from msgrpo_cli.config.schema import RunConfig

from .console import talk_on_stderr
from .text import one_line

Examination = Callable[[RunConfig], str]
"""Looks at one thing; returns what it found, and raises where that is not well."""


@dataclass(frozen=True)
class Check:
    """The result of one examination."""

    name: str
    passed: bool
    detail: str


def examine(config: RunConfig, examinations: Mapping[str, Examination], verbose: bool = False) -> list[Check]:
    """Every check's result, in order; says on stderr what is being looked at."""
    checks = []
    for name, look in examinations.items():
        print(f"checking {name}", file=sys.stderr, flush=True)
        with talk_on_stderr():
            checks.append(_result(name, look, config, verbose))
    return checks


def _result(name: str, look: Examination, config: RunConfig, verbose: bool) -> Check:
    try:
        return Check(name, True, look(config))
    except Exception as problem:  # noqa: BLE001 - whatever a broken installation raises is what is looked for
        if verbose:
            traceback.print_exception(problem)
        notes = [str(note) for note in getattr(problem, "__notes__", [])]
        return Check(name, False, "; ".join([*notes, one_line(problem)]))


def as_data(checks: Sequence[Check]) -> dict[str, Any]:
    """What `--json` prints."""
    return {"checks": [asdict(check) for check in checks], "passed": all(check.passed for check in checks)}


def show(checks: Sequence[Check]) -> None:
    """The table, on stdout."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    table.add_column(overflow="fold", ratio=1)
    for check in checks:
        mark = Text("ok", style="green") if check.passed else Text("FAILED", style="bold red")
        table.add_row(mark, Text(check.name), Text(check.detail))
    Console().print(table)
