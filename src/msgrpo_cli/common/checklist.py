"""A list of checks, each looked at whatever the others said, and their results as data and as a table.

Knows functions that return a sentence or raise, and how results are shown. Knows nothing about what is looked at.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .console import talk_on_stderr
from .text import one_line

Subject = TypeVar("Subject")
Examination = Callable[[Subject], str]
"""Looks at one side of what is examined; returns what it found, and raises where that is not well."""


@dataclass(frozen=True)
class Check:
    """The result of one examination."""

    name: str
    passed: bool
    detail: str


def examine(subject: Subject, examinations: Mapping[str, Examination[Subject]], verbose: bool = False) -> list[Check]:
    """Every check's result, in order; says on stderr what is being looked at."""
    checks = []
    for name, look in examinations.items():
        print(f"checking {name}", file=sys.stderr, flush=True)
        with talk_on_stderr():
            checks.append(_result(name, look, subject, verbose))
    return checks


def _result(name: str, look: Examination[Subject], subject: Subject, verbose: bool) -> Check:
    try:
        return Check(name, True, look(subject))
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
