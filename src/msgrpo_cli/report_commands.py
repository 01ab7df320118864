"""The commands `msgrpo report`, `msgrpo compare` and `msgrpo runs list|show`: arguments in, tables, a page or JSON out.

Knows options and how a comparison and a list of runs are shown. Imports nothing heavy: the work is imported inside the
commands.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from msgrpo_cli.errors import UsageError
from msgrpo_cli.options import AsJson, Verbose
from msgrpo_cli.reporting import ending

if TYPE_CHECKING:
    from msgrpo_cli.analysis.compare import Effect, PairedComparison
    from msgrpo_cli.analysis.listing import Listed

runs_app = typer.Typer(rich_markup_mode=None, help="List the runs, or show one.")

Targets = Annotated[
    list[str], typer.Argument(metavar="RUN|SWEEP", help="Runs and sweeps: directories, `last`, or prefixes of names.")
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A directory, `last`, or the beginning of a name.")]
Page = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Where the page goes; else into the one sweep named, or report.html."),
]
Filters = Annotated[
    list[str] | None,
    typer.Option("--filter", metavar="KEY=VALUE", help="Of the list, a config or run.json; may be repeated."),
]

_NONE = "-"
_FOLDED = ("run", "env", "model")
_UNFOLDED = 400  # columns of a list in a pipe, whose lines others cut
_SHOWN = 8  # evaluations of a run


def report(targets: Targets, html: Page = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Say what runs say together: a table on the terminal, and one page that works without a network."""
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


def compare(first: RunName, second: RunName, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Compare the best checkpoints of two runs on the very same episodes: effect, interval, p-value."""
    with ending(verbose):
        from msgrpo_cli.analysis.compare import compare_runs
        from msgrpo_cli.runs.directory import find_run

        one, other = find_run(first), find_run(second)
        if one.resolve() == other.resolve():
            raise UsageError(f"{second}: the same run as {first}; give two")
        found = compare_runs(one, other)
        if as_json:
            print(json.dumps(found.to_json(), allow_nan=False))
        else:
            _show_comparison(found, Console(highlight=False))


@runs_app.command("list")
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


@runs_app.command("show")
def show_one(run: RunName, as_json: AsJson = False, verbose: Verbose = False) -> None:
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


def _target(text: str) -> Path:
    from msgrpo_cli.runs.directory import find_run

    path = Path(text)
    return path if path.is_dir() else find_run(text)


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def _show_list(found: Sequence[Listed], console: Console) -> None:
    from msgrpo_cli.common.numbers import age

    columns = ("run", "status", "env", "model", "seed", "updates", "score", "on", "age")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:  # where it is narrow, names are folded
        right = name in ("seed", "updates", "score", "age")
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=name not in _FOLDED)
    for line in found:
        table.add_row(
            Text(line.name),
            Text("process gone" if line.process_is_gone else line.status),
            Text(line.env or _NONE),
            Text(line.model or _NONE),
            _NONE if line.seed is None else str(line.seed),
            f"{line.updates}/{line.max_updates or '?'}",
            _number(line.score),
            Text(line.score_split or _NONE),
            age(line.age_seconds),
        )
    console.print(table)
    for line in found:
        if line.status == "broken":
            console.print(Text(f"{line.name} is broken: {line.problem}"))


def _show_run(found: Mapping[str, Any], console: Console) -> None:
    from msgrpo_cli.common.numbers import age

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
    scores = _table(
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
                _number(row.get("mean_total_reward")),
                _number(row.get("success_rate")),
                _number(row.get("normalized_score")),
            )
    if scores.row_count:
        console.print(scores)
    if left > 0:
        console.print(f"{left} evaluations between the first and the last are left out")


def _show_comparison(found: PairedComparison, console: Console) -> None:
    from msgrpo_cli.analysis.compare import sentence, warnings_on

    top = Table.grid(padding=(0, 2))
    for letter, side in (("A", found.first), ("B", found.second)):
        top.add_row(Text(letter, style="bold"), Text(f"{side.run}, {Path(side.checkpoint).name}, {side.evaluation}"))
    where = f"{found.env}, {found.split} part: {found.episodes} episodes from {found.distinct_initial_states} starts"
    top.add_row("on", Text(f"{where}, each played by both"))
    console.print(top)
    effects = [found.total_reward]
    if found.success is not None and found.success.means != found.total_reward.means:
        effects.append(found.success)
    table = _table("", *(effect.measure for effect in effects), right=[effect.measure for effect in effects])
    for name, tell in _ROWS.items():
        table.add_row(name, *(tell(effect) for effect in effects))
    console.print(table)
    if found.differences:
        configs = _table("configs differ in", "A", "B")
        for key, (one, other) in found.differences.items():
            configs.add_row(Text(key), Text(one), Text(other))
        console.print(configs)
    console.print(Text(sentence(found), style="bold"))
    for warning in warnings_on(found.total_reward):
        console.print(Text(warning))
    console.print("About these two checkpoints; whether a setting is better takes several seeds: msgrpo report.")


def _p(effect: Effect) -> str:
    return f"{effect.p_value:.3f}" if effect.p_value >= 0.001 else "< 0.001"


def _interval(effect: Effect) -> str:
    return _NONE if effect.ci95 is None else f"[{effect.ci95[0]:.3f}, {effect.ci95[1]:.3f}]"


_ROWS: dict[str, Callable[[Effect], str]] = {
    "A": lambda effect: _number(effect.means[0]),
    "B": lambda effect: _number(effect.means[1]),
    "B - A": lambda effect: f"{effect.effect:+.3f}",
    "95 % interval": _interval,
    "p-value (sign flips over starts)": _p,
    "smallest detectable difference": lambda effect: _number(effect.smallest_detectable_difference),
    "starts that differ": lambda effect: str(effect.starts_that_differ),
    "episodes: A better / equal / B better": lambda effect: (
        f"{effect.first_better} / {effect.equal} / {effect.second_better}"
    ),
}


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"
