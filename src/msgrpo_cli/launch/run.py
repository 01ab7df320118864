"""Starting a run through Hydra, or going on with one that exists; what must be right before either.

Knows what must be right before a run directory exists, and what becomes of a job that fails. Knows nothing about
models or training (`train` does) nor about Hydra (`hydra_app` does).
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgrpo_cli.common.text import one_line
from msgrpo_cli.config import hydra_app
from msgrpo_cli.config.compose import (
    compose,
    config_dir,
    config_folders,
    lost_system,
    make_importable,
    validated,
    with_games,
)
from msgrpo_cli.config.saved import load_saved, saved_text
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.config.trainer_fields import fields
from msgrpo_cli.errors import UsageError, shown
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.models.precision import check_precision, check_steps
from msgrpo_cli.planning.architecture import adapter_count
from msgrpo_cli.planning.disk import check_room
from msgrpo_cli.planning.prompts import measured_prompt
from msgrpo_cli.rollout.split import check_parts
from msgrpo_cli.runs.checkpoint import (
    checkpoints,
    from_weights,
    is_adapter,
    is_checkpoint,
    own_base,
    taught_otherwise,
)
from msgrpo_cli.runs.directory import Run, find_run, is_run, now, tell_how_to_go_on
from msgrpo_cli.runs.gguf import is_gguf
from msgrpo_cli.runs.pretrained import check_reachable
from msgrpo_cli.runs.resume import changed

from .engine_checks import check_machine
from .nodes import check_nodes, torchrun_line, work_on

_UNKEYED = ("constant", "constant_with_warmup")
"""Schedules that read no keys of their own: transformers drops them without a word."""
_log = logging.getLogger(__name__)


@dataclass
class TrainJob:
    """What Hydra calls for a run whose directory exists. It keeps what goes wrong, which Hydra would tell otherwise."""

    command: list[str]
    from_checkpoint: Path | None = None
    outcome: dict[str, Any] | None = None
    """What `train --json` prints."""
    problem: Exception | None = None
    config_dirs: Sequence[Path] = ()
    """Where a mixture finds its games."""

    def __call__(self, data: dict[str, Any], run_dir: Path, overrides: list[str]) -> None:
        began = is_run(run_dir)
        try:
            config = job_config(data, self.config_dirs, self.from_checkpoint)
            self.outcome = work_on(config, run_dir, command=self.command, overrides=overrides)
        except Exception as problem:  # noqa: BLE001 - whatever it is, the record must tell it
            self.problem = problem
            _log.info("%s failed: %s", run_dir, one_line(problem))
            _log.info("traceback", exc_info=problem)
            if began and not is_run(run_dir):  # it was removed meanwhile, and stays removed
                return
            with contextlib.suppress(OSError):  # a full disk; `problem` says what is to be said
                record_failure(Run(run_dir), one_line(problem), self.command, overrides)
        except KeyboardInterrupt:
            tell_how_to_go_on(Run(run_dir))
            raise


def job_config(data: dict[str, Any], config_dirs: Sequence[Path], source: Path | None) -> RunConfig:
    """The config of a job that Hydra calls, with the weights of `source`."""
    with hydra_app.apart_from_the_callers():  # which is the Hydra that calls this
        whole = with_games(data, config_dirs)
    if source is not None:  # of `model=any`, whose path is not to be given twice
        whole = {**whole, "model": {**whole["model"], "path": str(source)}}
    return with_weights(validated(whole), source)


def ready(overrides: Sequence[str], config_dirs: Sequence[Path], source: Path | None = None) -> RunConfig:
    """The composed config, with the weights of `source`; what can be wrong before work starts is wrong here."""
    config = sound(overrides, config_dirs, source)
    check_precision(config)
    check_reachable(config.model)
    check_machine(config)
    return config


def sound(overrides: Sequence[str], config_dirs: Sequence[Path], source: Path | None = None) -> RunConfig:
    """As `ready`, for whatever machine it is meant."""
    config = composed(overrides, config_dirs, source)
    refuse_players(config)
    if config.trainer.get("learning_rate") is None:
        raise UsageError("trainer.learning_rate: missing; give a number, or choose a model that brings one")
    check_steps(config)
    check_schedule(config)
    if config.lora.enabled:
        adapter_count(config.model, config.lora)  # refuses targets that fit no layer
    check_starts(config)
    measured_prompt(config)  # refuses one that is too long
    return config


def composed(overrides: Sequence[str], config_dirs: Sequence[Path], source: Path | None = None) -> RunConfig:
    """The composed config, with the weights of `source`, whose path `model=any` need not be told twice.

    Says on stderr where a prompt that was chosen has lost its system text.
    """
    named = [] if source is None else [f"model.path={hydra_app.quoted(str(source))}"]
    config = compose("train", [*overrides, *named], config_dirs)
    if (lost := lost_system(config, overrides, config_dirs)) is not None:
        print(f"warning: {lost}", file=sys.stderr)
    return with_weights(config, source)


def refuse_players(config: RunConfig) -> None:
    """Raise UsageError where somebody else than a model is to be trained."""
    if config.policy != "model":
        raise UsageError(f"policy={config.policy}: only a model is trained; use msgrpo eval policy={config.policy}")


def check_schedule(config: RunConfig) -> None:
    """Raise UsageError for a schedule of the learning rate that cannot be made, or that does not read what is given."""
    trainer = {"lr_scheduler_type": fields()["lr_scheduler_type"]["default"], **config.trainer}
    kind, keys = trainer["lr_scheduler_type"], trainer.get("lr_scheduler_kwargs")
    if kind in _UNKEYED and keys:
        raise UsageError(
            f"trainer.lr_scheduler_kwargs={keys}: trainer.lr_scheduler_type={kind} reads none; leave it out"
        )
    if kind == "constant" and trainer.get("warmup_steps"):
        raise UsageError(
            f"trainer.warmup_steps={trainer['warmup_steps']}: trainer.lr_scheduler_type=constant has no warm-up; use "
            "trainer.lr_scheduler_type=constant_with_warmup"
        )
    if kind not in _UNKEYED:  # which takes torch
        from msgrpo_cli.training.schedule import try_schedule

        try_schedule(kind, keys, trainer.get("learning_rate"))


def check_starts(config: RunConfig) -> None:
    """Raise UsageError where the game has no start to train on, or none to evaluate on. Says on stderr where the step
    limit cuts games that would have ended by themselves: what they pay at their end is never paid."""
    asked, game = config.eval.split, make_game(config.env)
    check_parts(game, ("train", asked or "validation", asked or "test"))
    if game.ends_within is not None and game.max_steps < game.ends_within:
        cut = f"env.max_steps={game.max_steps}: games of up to {game.ends_within} steps are cut there"
        print(f"warning: {cut}, and what they pay at their end is not paid; give {game.ends_within}", file=sys.stderr)


def start(
    overrides: Sequence[str], config_dirs: Sequence[Path], command: list[str], from_checkpoint: Path | None
) -> dict[str, Any]:
    """One new run. Returns what `train --json` prints."""
    config = ready(overrides, config_dirs, from_checkpoint)
    check_nodes(config)
    if from_checkpoint is not None and (otherwise := taught_otherwise(config)):
        told = f"--from takes weights alone, and these were trained with {', '.join(otherwise)}"
        print(f"note: {told}; give it here too if it is meant", file=sys.stderr)
    folders = config_folders(config_dirs)
    directory = hydra_app.job_directory(config_dir(), "train", overrides, folders, multirun=False)
    check_room(config, directory)
    there = {folder for folder in (directory.absolute(), *directory.absolute().parents) if folder.exists()}
    Run(directory).create(command=command, overrides=list(overrides), config=saved_text(config))
    job = TrainJob(command, from_checkpoint, config_dirs=config_dirs)
    try:
        hydra_app.run_jobs(config_dir(), "train", job, overrides, directory, user_folders=folders)
    except KeyboardInterrupt:
        tell_how_to_go_on(Run(directory))
        raise
    if isinstance(job.problem, UsageError):
        _remove_traces(directory, there)
    if job.problem is not None:
        raise job.problem
    assert job.outcome is not None
    return job.outcome


def prepared(
    overrides: Sequence[str], config_dirs: Sequence[Path], command: list[str], from_checkpoint: Path | None
) -> tuple[Path, str]:
    """Make a new run whose processes somebody else starts; its directory, and the line for each of the machines."""
    config = sound(overrides, config_dirs, from_checkpoint)
    if config.parallel.name == "none":
        raise UsageError(
            "--prepare: parallel=none is one process, which msgrpo train starts; give parallel=ddp or fsdp"
        )
    directory = hydra_app.job_directory(config_dir(), "train", overrides, config_folders(config_dirs), multirun=False)
    check_room(config, directory)
    run = Run(directory.absolute())
    run.create(command=command, overrides=list(overrides), config=saved_text(config))
    run.update_record(status="interrupted")  # nobody works there yet
    return run.path, torchrun_line(config, run.path)


def print_config(what: str, overrides: Sequence[str], config_dirs: Sequence[Path]) -> None:
    """Hydra's own `--cfg job|hydra|all`, on stdout; runs nothing."""
    compose("train", overrides, config_dirs)
    folders = config_folders(config_dirs)
    hydra_app.run_jobs(config_dir(), "train", TrainJob([]), overrides, flags=["--cfg", what], user_folders=folders)


def go_on(
    text: str,
    overrides: Sequence[str],
    config_dirs: Sequence[Path],
    command: list[str],
    allow_modules: Collection[str],
) -> dict[str, Any]:
    """Resume the run that `text` names; no new directory is made."""
    run = find_run(text)
    Run(run).record()  # says where it is broken or newer, before anything is written
    make_importable(config_folders(config_dirs))
    config = changed(load_saved(run / "config.yaml", allow_modules), overrides)
    if not own_base(Run(run)).is_dir():  # else the run keeps the weights that it began with
        check_reachable(config.model)
    check_precision(config)
    check_steps(config)
    check_room(config, run, existing=len(checkpoints(Run(run))))
    check_machine(config)
    check_nodes(config)
    return work_on(config, run, command=command, overrides=list(overrides), resume=run)


def weights_of(text: str, overrides: Sequence[str]) -> Path:
    """What `--from` names: a checkpoint or model directory, a GGUF file, or a run. Raises UsageError where other
    weights are named beside it."""
    for given in overrides:
        if given.lstrip("+~").partition("=")[0] in ("model.path", "model.init", "model.revision"):
            raise UsageError(f"{shown(given)}: changes nothing beside --from, which names the weights; leave one out")
    path = Path(text)
    if is_gguf(text):
        return path.expanduser()
    return path if (path / "config.json").is_file() or is_adapter(path) or is_checkpoint(path) else find_run(text)


def with_weights(config: RunConfig, source: Path | None) -> RunConfig:
    """The config, with the weights that `--from` named as its base."""
    return config if source is None else from_weights(config, source)


def record_failure(run: Run, error: str, command: Sequence[str], overrides: list[str]) -> None:
    """Make sure that run.json tells the end, also where work failed before it began to write."""
    if not is_run(run.path):
        run.update_record(command=list(command), overrides=overrides, start=now())
    if run.record().get("status") in (None, "running"):
        run.finish("failed", error)


def _remove_traces(run_dir: Path, there: Collection[Path]) -> None:
    """Take back what was written for a run that never started; where there is anything else, leave all as it is.

    `there`: the folders that existed before, which stay.
    """
    for handler in list(logging.getLogger().handlers):  # the log of a run that never was
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).is_relative_to(run_dir.absolute()):
            logging.getLogger().removeHandler(handler)
            handler.close()
    folders = [run_dir / ".hydra", Run(run_dir).reference, own_base(Run(run_dir))]
    files = [run_dir / name for name in ("log.txt", "run.json", "config.yaml", "progress.json", ".lock")]
    written = {*files, *(path for folder in folders for path in folder.rglob("*"))}
    if any(path.is_file() and path not in written for path in run_dir.rglob("*")):
        return
    for folder in (*folders, Run(run_dir).checkpoints):  # in the latter there are only empty folders by now
        shutil.rmtree(folder, ignore_errors=True)
    for file in files:
        file.unlink(missing_ok=True)
    for folder in (run_dir.absolute(), *run_dir.absolute().parents):
        if folder in there or any(folder.iterdir()):
            return
        folder.rmdir()
