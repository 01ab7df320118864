"""Training and evaluating from Python: what `from msgrpo_cli import train, evaluate` gives.

Knows which work stands behind each function, and what a process that goes on afterwards wants back: its logging and
its own Hydra. Knows nothing about exit codes, signals or how the work is done. Imports nothing heavy before a call.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgrpo_cli.common.importing import importing
from msgrpo_cli.errors import UsageError


def train(
    *overrides: str,
    resume: str | Path | None = None,
    from_: str | Path | None = None,
    config_dirs: str | Path | Sequence[str | Path] = (),
    allow_modules: str | Sequence[str] = (),
) -> dict[str, Any]:
    """Train a model to play a game, as `msgrpo train` does, and return what `msgrpo train --json` prints.

        >>> result = train("env=frozenlake", "seed=1", "max_updates=20")  # doctest: +SKIP
        >>> result["run"], result["success_rate"]  # doctest: +SKIP

    `overrides`: choices and values, each a string as on the command line. `resume`: a run to go on with: its directory,
    `last`, or the beginning of its name. `from_`: a run or a checkpoint whose weights a new run starts from.
    `config_dirs`: folders with config files of your own. `allow_modules`: modules that the saved config of a resumed
    run may import.

    Progress goes to stderr. Raises UsageError where nothing was started, RunError where started work failed; any other
    exception comes as it is. An interrupted run (KeyboardInterrupt) is marked as such and can be resumed.
    """
    if resume and from_:
        raise UsageError("resume and from_: only one of them")
    command = ["msgrpo", "train", *overrides]
    with _as_it_was():
        from msgrpo_cli.launch.run import go_on, start, weights_of

        folders = [Path(folder) for folder in _listed(config_dirs)]
        modules = [str(name) for name in _listed(allow_modules)]
        if resume:
            return go_on(str(resume), overrides, folders, [*command, "--resume", str(resume)], modules)
        weights = weights_of(str(from_), overrides) if from_ else None
        return start(overrides, folders, [*command, *(["--from", str(from_)] if from_ else [])], weights)


def evaluate(
    target: str | Path | None = None,
    *overrides: str,
    all_checkpoints: bool = False,
    config_dirs: str | Path | Sequence[str | Path] = (),
    allow_modules: str | Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Score a run, a checkpoint, a base or a reference player, as `msgrpo eval` does.

        >>> [score] = evaluate("last", "eval.episodes=200")  # doctest: +SKIP
        >>> [base] = evaluate(None, "model=tiny", "env=frozenlake")  # doctest: +SKIP

    `target`: a run, a checkpoint, a model directory or a hub id; None for what the overrides name. `overrides`,
    `config_dirs`, `allow_modules`: as for `train`. `all_checkpoints`: every checkpoint of the run.

    Returns one evaluation object, as `msgrpo eval --json` prints it, for each checkpoint and scenario. The table is
    shown as well: below the cell in a notebook, elsewhere on stderr. Raises what `train` raises.
    """
    with _as_it_was():
        from msgrpo_cli.evaluation.targets import asked_for

        asked = asked_for(
            None if target is None else str(target),
            overrides,
            all_checkpoints=all_checkpoints,
            config_dirs=[Path(folder) for folder in _listed(config_dirs)],
            allow_modules=[str(name) for name in _listed(allow_modules)],
        )
        with importing():
            from msgrpo_cli.evaluation.evaluate import evaluate_subjects

        return evaluate_subjects(asked, as_json=False)


def _listed(given: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    return [given] if isinstance(given, (str, Path)) else given


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """What is printed goes to stderr; afterwards logging and a Hydra that the caller uses are as they were."""
    from msgrpo_cli.common.console import talk_on_stderr
    from msgrpo_cli.config.hydra_app import apart_from_the_callers

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        with talk_on_stderr(), apart_from_the_callers():
            yield
    finally:
        for handler in set(root.handlers) - set(handlers):  # Hydra's, such as the run's log.txt
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
