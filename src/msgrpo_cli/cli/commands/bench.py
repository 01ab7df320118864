"""`msgrpo bench rollout|update|learn`: what a phase costs, in one table or one JSON object.

Knows options and how figures are shown. What is measured is in `training/bench`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from msgrpo_cli.common.console import talk_on_stderr

from ..exit import ending
from ..options import AsJson, ConfigDirs, Overrides, Verbose, at_least, only_overrides

if TYPE_CHECKING:
    from msgrpo_cli.config.schema import RunConfig

app = typer.Typer(rich_markup_mode=None, help="Measure a phase beside what the bare model needs.")

Repeats = Annotated[
    int, typer.Option("--repeats", metavar="N", callback=at_least(1), help="Rounds, of which the median is told.")
]

_SHOWN = {
    "seconds": "of one update's phase, median of the rounds",
    "seconds_scoring": "of them: rows to tensors, old and reference log-probabilities",
    "seconds_update": "of them: forward, backward, optimizer",
    "limit_seconds": "the bare model on the same tokens, nothing padded, every row with a prompt of its own",
    "shared_limit_seconds": "the same, every distinct prompt of a batch once",
    "trie_limit_seconds": "the same, every distinct beginning of a batch's prompts and answers once",
    "time_over_limit": "below 1: prompts, and answers that begin alike, are computed once",
    "model_share": "share of the seconds inside the model",
    "tokens_read": "tokens that the model reads, padding included",
    "trie_tokens": "distinct beginnings, each counted by its last token: of every decision, or of the update",
    "padding_share": "of the tokens read",
    "duplicate_prompt_share": "prompts that repeat an earlier one of their batch, or of the update",
    "tokens_without_loss": "prompts of the rows",
    "tokens_with_loss": "answers of the rows",
    "peak_memory_bytes": "of the process, or of the accelerator, before the limits were run",
    "seconds_to_target": "of the updates, evaluations and loading left out",
    "decisions_to_target": "played in them",
    "update": "after which the target was reached",
    "target": "success on validation",
    "base": "success on validation before training",
}


@app.command()
def rollout(
    overrides: Overrides = None,
    repeats: Repeats = 5,
    config_dir: ConfigDirs = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Play one update's episodes, beside the bare model.

    The model alone runs on the very tokens that were played.
    """

    def measure(config: RunConfig) -> dict[str, Any]:
        from msgrpo_cli.training.bench.rollout import bench_rollout

        return bench_rollout(config, repeats)

    _bench(measure, overrides, config_dir, as_json, verbose)


@app.command()
def update(
    overrides: Overrides = None,
    repeats: Repeats = 5,
    config_dir: ConfigDirs = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Train on one update's rows, beside the bare model.

    The model alone makes forward and backward passes over the same rows.
    """

    def measure(config: RunConfig) -> dict[str, Any]:
        from msgrpo_cli.training.bench.update import bench_update

        return bench_update(config, repeats)

    _bench(measure, overrides, config_dir, as_json, verbose)


@app.command()
def learn(
    overrides: Overrides = None, config_dir: ConfigDirs = None, as_json: AsJson = False, verbose: Verbose = False
) -> None:
    """Train until 80 % of held-out starts are won.

    Tells seconds and decisions until then.
    """

    def measure(config: RunConfig) -> dict[str, Any]:
        from msgrpo_cli.training.bench.learn import bench_learn

        return bench_learn(config, overrides or [])

    _bench(measure, overrides, config_dir, as_json, verbose)


def _bench(
    measure: Callable[[RunConfig], dict[str, Any]],
    overrides: list[str] | None,
    folders: list[Path] | None,
    as_json: bool,
    verbose: bool,
) -> None:
    with ending(verbose):
        from msgrpo_cli.config.compose import compose
        from msgrpo_cli.config.seats import refuse_several

        config = compose("train", only_overrides(overrides), folders or [])
        refuse_several(config, "msgrpo bench")
        with talk_on_stderr():
            found = measure(config)
        if as_json:
            print(json.dumps(found, allow_nan=False))
        else:
            _show(found)


def _show(found: Mapping[str, Any]) -> None:
    table = Table(box=None, show_header=False)
    for name, value in found.items():
        if name != "machine":
            shown = f"{value:,.4g}".replace(",", " ") if isinstance(value, float) else str(value)
            table.add_row(name, shown, _SHOWN.get(name, ""))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "machine  " + ", ".join(f"{name} {value}" for name, value in found["machine"].items()), soft_wrap=True
    )
