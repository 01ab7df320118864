"""The life of one training run: locked, recorded, begun or gone on with, ended as done, failed or interrupted.

Knows run directories, resume points and how a run ends. Knows nothing about models, games or the trainer:
`assembly` and `session` do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from msgrpo_cli.common.console import say
from msgrpo_cli.common.files import write_text
from msgrpo_cli.common.jsonl import read_lines
from msgrpo_cli.common.lock import is_there, locked
from msgrpo_cli.common.signals import heeding
from msgrpo_cli.config.saved import anchored, config_hash, saved_text
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import RunError
from msgrpo_cli.models.loading import quiet_libraries
from msgrpo_cli.models.precision import device_for
from msgrpo_cli.models.surroundings import neutral_surroundings
from msgrpo_cli.rollout.collect import play_update
from msgrpo_cli.runs import checkpoint
from msgrpo_cli.runs.directory import Run, Status, tell_how_to_go_on
from msgrpo_cli.runs.resume import (
    ResumePoint,
    bytes_that_stay,
    differences,
    go_back,
    remove_leftovers,
    resume_point,
    stays,
)
from msgrpo_cli.runs.trained_prompts import trained_before, trained_prompts

from .assembly import connected, following
from .curriculum import Curriculum
from .display import Display
from .parallel.following import Begin
from .parallel.ranks import ALONE, EndedByFirst, Ranks
from .session import PlayUpdate
from .stopping import Stopping
from .supervision import Supervision
from .trackers import trackers_inside


def train_job(
    config: RunConfig,
    run_dir: Path,
    *,
    command: list[str],
    overrides: list[str],
    resume: Path | None = None,
    play: PlayUpdate = play_update,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Train, or go on training, in `run_dir`; returns what `train --json` prints.

    `play` plays each update, as `rollout.collect.play_update` does. Of several `ranks` this is the work of the first;
    that of the others is `follow_job`.

    `run.json` ends as done, failed or interrupted, whatever happens. Raises UsageError where another process works
    in the directory, RunError for work that failed, Interrupted where the process was asked to end.
    """
    began = time.perf_counter()
    config = anchored(config)
    run = Run((resume or run_dir).absolute())
    if resume is None:  # else it is there, or was removed while this process came up
        run.path.mkdir(parents=True, exist_ok=True)
    with locked(run.path):
        damaged: list[str] = []
        point = resume_point(config, run, damaged.append)
        kept = bytes_that_stay(point, run)  # refuses before anything is written
        write_text(run.config, saved_text(config))
        before = run.begin(
            command=command,
            overrides=overrides,
            config_hash=config_hash(config),
            device=str(device_for(config.trainer)),
            threads=torch.get_num_threads(),
        )
        run.update_record(processes=ranks.count)
        try:
            quiet_libraries()
            with trackers_inside(run.path), neutral_surroundings(say, several=not ranks.alone), ranks.led():
                summary = _train(config, run, point, kept, before if resume is not None else None, damaged, play, ranks)
        except KeyboardInterrupt:
            tell_how_to_go_on(run)
            raise
        except BaseException as error:
            if not is_there(run.path):
                raise RunError(f"{run.path}: the run directory was removed while the run went on") from error
            _finish(run, "failed", f"{type(error).__name__}: {error}")
            if isinstance(error, (OSError, SystemExit)):  # to others the latter would look like success
                raise RunError(f"{run.path}: the run failed: {type(error).__name__}: {error}") from error
            raise
        _finish(run, "done")
    return {"run": str(run.path), "status": "done", **summary, "wall_seconds": time.perf_counter() - began}


def follow_job(run_dir: Path, ranks: Ranks) -> None:
    """The work of every rank but the first: what that one tells, until it ends the run. Writes nothing into the run but
    its own part of a checkpoint."""
    begin: Begin = ranks.hear()
    quiet_libraries()
    with (
        open(os.devnull, "w") as nowhere,
        neutral_surroundings(lambda text: None, several=True),
        heeding(None, lambda: None, heard=b""),
        suppress(EndedByFirst),
    ):
        display = Display(begin.config.max_updates, Console(file=nowhere), ranks.beat.at)
        following(begin.config, Run(run_dir), display, begin.stage, ranks).follow()


def _finish(run: Run, status: Status, error: str | None = None) -> None:
    """Mark the end; where even that cannot be written (a full disk), say so instead of hiding what ended the run."""
    try:
        run.finish(status, error)
    except OSError as problem:
        say(f"{run.path / 'run.json'} could not be marked as {status}: {problem}")


def _train(
    config: RunConfig,
    run: Run,
    point: ResumePoint,
    kept: Mapping[Path, int],
    before: Mapping[str, Any] | None,
    damaged: Sequence[str],
    play: PlayUpdate,
    ranks: Ranks,
) -> dict[str, Any]:
    """The work itself; `before` is the record of the run that goes on, None for a new one."""
    with (
        Supervision(run, config.max_updates, ranks.beat) as supervision,
        heeding(config.max_hours, supervision.last_words),
    ):
        tell = supervision.display.say
        for reason in damaged:
            tell(f"warning: {reason}; the one before is used")
        rows = [row for row in read_lines(run.metrics) if stays(point, row)]
        stopping, curriculum = Stopping.of(config.stop, rows), Curriculum.of(config.curriculum, rows)
        ended = stopping.reason is not None or point.update >= config.max_updates
        if before is not None and ended and (best := run.record()["summary"].get("best")):
            why = stopping.reason or "a higher max_updates goes on"
            tell(f"{run.path}: already at {point.update} of {config.max_updates} updates; {why}")
            return _summary(run, best)
        tell(f"run {run.path}")
        if not ranks.alone:
            machines = f" on {config.parallel.nodes} machines" if config.parallel.nodes > 1 else ""
            tell(f"parallel={config.parallel.name}: {ranks.count} processes{machines} train together")
        if before is not None:
            for line in differences(before, run.record()):
                tell(f"warning: {line}")
            tell(f"going on after update {point.update}")
            supervision.display.begins_after(point.update)
        go_back(run, kept)
        began = point.checkpoint
        trained = trained_prompts(began, config.prompt) if began else trained_before(config)
        ranks.tell(Begin(config, curriculum.stage))
        session = connected(config, run, supervision.display, stopping, curriculum, trained, play, ranks)
        with supervision.explaining(session.limits, session.text_of):
            if not point.base_is_scored:
                session.evaluate_base(again=point.checkpoint is not None)
            if point.evaluation_is_pending:
                session.evaluate_pending(point)
            if not ended and stopping.reason is None:
                session.train(point)
            remove_leftovers(run)  # TRL makes its own folder even where nothing is left to train
            return _summary(run, session.finish())


def _summary(run: Run, best: Mapping[str, Any]) -> dict[str, Any]:
    """What a finished run says; `best` is the final evaluation of the best checkpoint."""
    last = checkpoint.checkpoints(run)[-1]
    return {
        "updates": checkpoint.update_of(last),
        "checkpoint": str(last.relative_to(run.path)),
        "best_checkpoint": best["checkpoint"],
        "success_rate": best["success_rate"],
        "mean_total_reward": best["mean_total_reward"],
    }
