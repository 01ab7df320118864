"""The commands `msgrpo bench rollout|update|learn`: arguments in, one table or one JSON object out.

Knows options and how figures are shown. Imports nothing heavy; what is measured is in `bench`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .options import AsJson, ConfigDirs, Overrides, Verbose, only_overrides
from .reporting import ending, talk_on_stderr

app = typer.Typer(rich_markup_mode=None, help="Measure what a phase costs beside what the bare model needs.")

Repeats = Annotated[int, typer.Option("--repeats", min=1, help="Rounds, of which the median is told.")]


@app.command()
def rollout(
    overrides: Overrides = None,
    repeats: Repeats = 5,
    config_dir: ConfigDirs = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Play one update's episodes, beside the model alone on the very tokens that were played."""
    with ending(verbose):
        config = _config(overrides, config_dir)
        with talk_on_stderr():
            from .bench.rollout import bench_rollout

            found = bench_rollout(config, repeats)
        _show(found, as_json)


@app.command()
def update(
    overrides: Overrides = None,
    repeats: Repeats = 5,
    config_dir: ConfigDirs = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Train on one update's rows, beside the model's bare forward and backward over them."""
    with ending(verbose):
        config = _config(overrides, config_dir)
        with talk_on_stderr():
            from .bench.update import bench_update

            found = bench_update(config, repeats)
        _show(found, as_json)


@app.command()
def learn(
    overrides: Overrides = None, config_dir: ConfigDirs = None, as_json: AsJson = False, verbose: Verbose = False
) -> None:
    """Train until 80 % of held-out starts are won: seconds and decisions until then."""
    with ending(verbose):
        config = _config(overrides, config_dir)
        with talk_on_stderr():
            from .bench.learn import bench_learn

            found = bench_learn(config, overrides or [])
        _show(found, as_json)


def _config(overrides: list[str] | None, folders: list[Path] | None) -> Any:
    from .config import compose

    return compose("train", only_overrides(overrides), folders or [])


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, allow_nan=False))
        return
    table = Table(box=None, show_header=False)
    for name, value in found.items():
        if name != "machine":
            table.add_row(name, f"{value:,.4g}".replace(",", " ") if isinstance(value, float) else str(value))
    table.add_row("machine", ", ".join(f"{name} {value}" for name, value in found["machine"].items()))
    Console(highlight=False).print(table)
