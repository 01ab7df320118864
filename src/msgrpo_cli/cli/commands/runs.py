"""`msgrpo runs list|show`: which runs there are, and what matters about one.

Knows options and how lists are shown. The work is `analysis/listing`.
"""

from __future__ import annotations

import json
import re
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
_COLUMNS = ("run", "status", "env", "model", "seed", "updates", "score", "on", "age")
_FOLDED = ("run", "env", "model")
_DROPPED = ("age", "on", "seed", "model")  # one after the other, where the terminal is narrower than all need
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
    cells = {name: [_cells(line)[name] for line in found] for name in _COLUMNS}
    widths = _widths(cells, console.width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name, width in widths.items():
        right = name in ("seed", "updates", "score", "age")
        table.add_column(name, justify="right" if right else "left", overflow="fold", min_width=width)
    for row in range(len(found)):
        table.add_row(*(Text(_folded(cells[name][row], width)) for name, width in widths.items()))
    console.print(table)
    if console.is_terminal and "on" in widths:
        everything = (
            "; any: all that the game draws, none held out" if any(x.score_split == "any" for x in found) else ""
        )
        console.print(Text(f"on: the part of the starts that the score was played on{everything}", style="dim"))
    for line in found:
        if line.status == "broken":
            console.print(Text(f"{line.name} is broken: {line.problem}"))


def _cells(line: Listed) -> dict[str, str]:
    return {
        "run": line.name,
        "status": "process gone" if line.process_is_gone else line.status,
        "env": line.env or NONE,
        "model": line.model or NONE,
        "seed": NONE if line.seed is None else str(line.seed),
        "updates": f"{line.updates}/{line.max_updates or '?'}",
        "score": number(line.score),
        "on": line.score_split or NONE,
        "age": age(line.age_seconds),
    }


def _widths(cells: Mapping[str, Sequence[str]], room: int) -> dict[str, int]:
    """Of each column that there is room for: as wide as its cells, or where it is narrow as the parts of its names."""
    widths = {name: max(len(name), *map(len, column)) for name, column in cells.items()}
    least = dict(widths)
    for name in _FOLDED:
        least[name] = max(len(name), *(len(part) for cell in cells[name] for part in _parts(cell)))
    for name in _DROPPED:
        if sum(least.values()) + 2 * len(least) > room:  # two blanks between, one at each edge
            del widths[name], least[name]
    while sum(widths.values()) + 2 * len(widths) > room and widths != least:
        widest = max((name for name in widths if widths[name] > least[name]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _parts(name: str) -> list[str]:
    """Where a name may be folded: behind hyphens and underscores."""
    return re.findall(r"[^-_]*[-_]+|[^-_]+", name) or [""]


def _folded(name: str, width: int) -> str:
    lines = [""]
    for part in _parts(name) if len(name) > width else [name]:
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


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
                Text("all starts" if row.get("split") == "any" else str(row.get("split"))),
                number(row.get("mean_total_reward")),
                number(row.get("success_rate")),
                number(row.get("normalized_score")),
            )
    if scores.row_count:
        console.print(scores)
    if left > 0:
        console.print(f"{left} evaluations between the first and the last are left out")
