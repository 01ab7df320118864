"""`msgrpo runs list|show`: which runs there are, and what matters about one.

Knows options and how lists are shown. The work is `analysis/listing`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from msgrpo_cli.common.numbers import NONE, age, number

from ..exit import ending
from ..options import AsJson, RunArgument, Verbose
from ..tables import plain_table

if TYPE_CHECKING:
    from msgrpo_cli.analysis.listing import Listed

app = typer.Typer(rich_markup_mode=None, help="List the runs, or show one.")
Filters = Annotated[
    list[str] | None,
    typer.Option("--filter", metavar="KEY=VALUE", help="Of the list, a config or run.json; may be repeated."),
]
_FOLDED = ("run", "env", "model")
_UNFOLDED = 400  # columns of a list in a pipe, whose lines others cut
_SHOWN = 8  # evaluations of a run


@app.command("list")
def list_all(
    filters: Filters = None,
    sort: Annotated[str | None, typer.Option(metavar="KEY", help="Of the list, a config or run.json.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """List the runs in outputs/ and multirun/, the youngest first."""
    with ending(verbose):
        from msgrpo_cli.analysis.listing import list_runs

        found = list_runs(Path("."), filters or [], sort, reverse)
        if as_json:
            print(json.dumps([line.to_json() for line in found], allow_nan=False))
        elif found:
            _show_list(found, Console(highlight=False, width=None if sys.stdout.isatty() else _UNFOLDED))
        else:
            print(f"no run in outputs/ or multirun/{' fits' if filters else ''}", file=sys.stderr)


@app.command("show")
def show_one(run: RunArgument, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show what matters about one run."""
    with ending(verbose):
        from msgrpo_cli.analysis.listing import details
        from msgrpo_cli.common.files import strict
        from msgrpo_cli.runs.directory import find_run
        from msgrpo_cli.runs.reader import read_run

        found = read_run(find_run(run))
        if as_json:
            print(json.dumps(strict(details(found)), allow_nan=False, default=str))
        else:
            _show_run(details(found), Console(highlight=False))


def _show_list(found: Sequence[Listed], console: Console) -> None:
    columns = ("run", "status", "env", "model", "seed", "updates", "score", "on", "age")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:  # where it is narrow, names are folded
        right = name in ("seed", "updates", "score", "age")
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=name not in _FOLDED)
    for line in found:
        table.add_row(
            Text(line.name),
            Text("process gone" if line.process_is_gone else line.status),
            Text(line.env or NONE),
            Text(line.model or NONE),
            NONE if line.seed is None else str(line.seed),
            f"{line.updates}/{line.max_updates or '?'}",
            number(line.score),
            Text(line.score_split or NONE),
            age(line.age_seconds),
        )
    console.print(table)
    for line in found:
        if line.status == "broken":
            console.print(Text(f"{line.name} is broken: {line.problem}"))


def _show_run(found: Mapping[str, Any], console: Console) -> None:
    gone = "; its process is gone, msgrpo train --resume goes on with it" if found["process_is_gone"] else ""
    versions = found["versions"] if isinstance(found["versions"], dict) else {}
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    lines = {
        "run": found["run"],
        "status": f"{found['status']}{gone}" + (f": {found['problem']}" if found["problem"] else ""),
        "what": f"env {found['env']}, model {found['model']}, seed {found['seed']}",
        "overrides": " ".join(map(str, found["overrides"] or ())) or "none",
        "updates": f"{found['updates']} of {found['max_updates']}"
        + (f"; {found['stopped']}" if found["stopped"] else ""),
        "started": f"{found['start']}, {age(found['age_seconds'])} ago; ended {found['end'] or 'not yet'}",
        "machine": f"{found['device']}, {found['precision']}, {found['threads']} threads, on {found['host']}",
        "commit": found["commit"],
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        "checkpoints": ", ".join(found["checkpoints"]) or "none",
    }
    for name, text in lines.items():
        table.add_row(name, Text(str(text)))
    console.print(table)
    scores = plain_table(
        "scored", "part", "total reward", "success", "normalised", right=("total reward", "success", "normalised")
    )
    rows = [(f"update {row['update']}", row) for row in found["evaluations"] if row["split"] != "test"]
    left = len(rows) - _SHOWN
    told = [*rows[:1], *rows[-_SHOWN + 1 :]] if left > 0 else rows
    final = found["final"] or {}
    told += [("base", found["base"]), (f"best: {Path(str(final.get('checkpoint'))).name}", final)]
    for name, row in told:
        if row:
            scores.add_row(
                Text(name),
                Text(str(row.get("split"))),
                number(row.get("mean_total_reward")),
                number(row.get("success_rate")),
                number(row.get("normalized_score")),
            )
    if scores.row_count:
        console.print(scores)
    if left > 0:
        console.print(f"{left} evaluations between the first and the last are left out")
