"""`msgrpo train`: one run, a resumed run, several (`-m`), or a look at what a run would be (`--dry-run`, `--cfg`).

Knows options. The work is `launch/run`; from there `training/train`.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from msgrpo_cli.common.console import talk_on_stderr
from msgrpo_cli.errors import UsageError

from ..exit import ending
from ..options import AllowModules, AsJson, ConfigDirs, DryRun, Overrides, Verbose, only_overrides
from .config import show_config
from .sweep import run_or_show


class Printed(StrEnum):
    """What Hydra's `--cfg` prints."""

    job = "job"
    hydra = "hydra"
    all = "all"


def train(
    overrides: Overrides = None,
    multirun: Annotated[bool, typer.Option("--multirun", "-m", help="Run every combination, as `sweep`.")] = False,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on: directory, `last`, prefix.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="RUN|CHECKPOINT", help="Start from another run's weights.")
    ] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Make the run, for torchrun to start its processes; say how.")
    ] = False,
    cfg: Annotated[Printed | None, typer.Option(help="Print the composed config, as Hydra does.")] = None,
    dry_run: DryRun = False,
    config_dir: ConfigDirs = None,
    allow_module: AllowModules = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Train a model to play a game; prints the run directory."""
    with ending(verbose):
        texts, folders = only_overrides(overrides), config_dir or []
        for option, text in (("--resume", resume), ("--from", from_)):
            if text == "":
                raise UsageError(f"{option}: empty; give a run directory, `last`, or the beginning of a run's name")
        _refuse_both({"--resume": resume, "--from": from_}, {"--resume": resume, "--multirun": multirun})
        _refuse_both({"--resume": resume, "--dry-run": dry_run}, {"--resume": resume, "--cfg": cfg})
        for option, given in (("--resume", resume), ("--multirun", multirun), ("--dry-run", dry_run), ("--cfg", cfg)):
            _refuse_both({"--prepare": prepare, option: given})
        from msgrpo_cli.launch.run import go_on, prepared, print_config, start, weights_of

        weights = weights_of(from_, texts) if from_ else None
        if cfg:
            print_config(cfg.value, texts, folders)
        elif multirun:
            run_or_show(texts, folders, weights, dry_run=dry_run, as_json=as_json)
        elif dry_run:
            show_config(texts, folders, as_json, weights, measure=True)
        elif prepare:
            run, line = prepared(texts, folders, sys.argv, weights)
            print(json.dumps({"run": str(run), "on_every_machine": line}) if as_json else run)
            print(f"on every machine: {line}", file=sys.stderr)
        else:
            with talk_on_stderr():
                if resume:
                    outcome = go_on(resume, texts, folders, sys.argv, allow_module or [])
                else:
                    outcome = start(texts, folders, sys.argv, weights)
            print(json.dumps(outcome, allow_nan=False) if as_json else outcome["run"])


def _refuse_both(*pairs: dict[str, Any]) -> None:
    for pair in pairs:
        if all(pair.values()):
            raise UsageError(f"{' and '.join(pair)}: only one of them")
