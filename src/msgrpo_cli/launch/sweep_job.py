"""One job of a sweep: its run directory made, its training watched in a process of its own, its end recorded.

Knows run directories and processes. Knows nothing about models, training or launchers; a launcher may pickle a job
and call it in any process. It raises for nothing but the end of its own process, since one job must not end others.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgrpo_cli.common.signals import PARENT
from msgrpo_cli.common.text import one_line
from msgrpo_cli.config.compose import config_folders, ids_of
from msgrpo_cli.config.saved import saved_text
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import INTERRUPTED, TERMINATED, UsageError
from msgrpo_cli.planning.disk import check_room
from msgrpo_cli.runs.directory import Run, is_run, now
from msgrpo_cli.runs.sweep import Sweep, log_of, prune_file

from .engine_checks import SIZES
from .ranks import processes
from .run import job_config, record_failure

_POLL = 0.5  # seconds between looks at the child and at the stop file
_GRACE = 60.0  # seconds that a child has to reach a safe point and save
_SCHEDULER = (signal.SIGTERM, *(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)))
_LAST_LINES = 4096  # bytes of the log in which the last error is looked for


@dataclass(frozen=True)
class SweepJob:
    """What Hydra's launcher calls for every job."""

    sweep: Path
    command: Sequence[str]
    pid: int
    """The process of the sweep."""
    group: int
    """Its process group: whoever signals that signals the sweep, too, which then sets the stop file."""
    config_dirs: Sequence[Path] = ()
    from_checkpoint: Path | None = None
    fail_fast: bool = False
    threads: int | None = None
    """Of a job, where several work at the same time, for all its processes; None leaves them to the libraries."""

    def __call__(self, data: dict[str, Any], run_dir: Path, overrides: list[str]) -> None:
        if os.getpid() != self.pid and os.getpgrp() == self.group:
            with contextlib.suppress(ValueError):  # not the main thread of a launcher's worker
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
        run, stop_file = Run(run_dir.absolute()), Sweep(self.sweep).stop_file
        if stop_file.exists() or _is_settled(run) or _on_another_node():
            return
        begun = False
        try:
            config = self._begun(run, data, overrides)
            begun = True
            with _heard_after() as heard:
                _work(
                    run,
                    self._command_of(run, config),
                    self._environment(config),
                    lambda: bool(heard) or stop_file.exists() or prune_file(run.path).exists(),
                )
            if prune_file(run.path).exists() and run.record().get("status") == "interrupted":
                run.update_record(pruned=True, error=prune_file(run.path).read_text(encoding="utf-8"))
        except Exception as problem:  # noqa: BLE001 - whatever it is, the other jobs must start
            with contextlib.suppress(OSError, UsageError):  # a full disk, a record that is broken
                if is_run(run.path) or not begun:  # else somebody removed it: it shall not come back half
                    record_failure(run, one_line(problem), self.command, overrides)
        with contextlib.suppress(OSError, UsageError):
            if self.fail_fast and run.record().get("status") == "failed":
                stop_file.write_text(f"--fail-fast: {run.path.name} failed", encoding="utf-8")

    def _begun(self, run: Run, data: dict[str, Any], overrides: list[str]) -> RunConfig:
        """The job's config; its run directory exists afterwards, ready for `train --resume`."""
        config = job_config(data, self.config_dirs, self.from_checkpoint)
        if not run.config.exists():
            check_room(config, run.path)
            (run.path / "run.json").unlink(missing_ok=True)  # of a job that failed before it had a config
            run.create(command=list(self.command), overrides=overrides, config=saved_text(config))
        return config

    def _command_of(self, run: Run, config: RunConfig) -> list[str]:
        """Going on with the run: from its last checkpoint, or from the beginning where there is none."""
        modules = sorted({env_id.partition(":")[0] for env_id in ids_of(config.env.model_dump()) if ":" in env_id})
        return [
            *(sys.executable, "-P", "-m", "msgrpo_cli", "train", "--resume", str(run.path)),
            *(text for folder in config_folders(self.config_dirs) for text in ("--config-dir", str(folder))),
            *(text for module in modules for text in ("--allow-module", module)),
        ]

    def _environment(self, config: RunConfig) -> dict[str, str]:
        shared = {}
        if self.threads is not None:
            shared["OMP_NUM_THREADS"] = str(max(1, self.threads // max(1, processes(config))))
        known = {name: value for name, value in os.environ.items() if name not in SIZES}  # of the tasks of one job
        return {**known, **shared, PARENT: str(os.getpid())}


def _on_another_node() -> bool:
    """Of a job of several nodes submitit calls a task on each; the first starts what works on the others."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm" and os.environ.get("SLURM_PROCID", "0") != "0"


@contextlib.contextmanager
def _heard_after() -> Iterator[list[int]]:
    """Signals that a scheduler sends meanwhile; submitit hears of them at the end, when the child has saved.

    It would queue the job again at once, and SLURM then ends it within seconds.
    """
    heard: list[int] = []
    handlers: dict[int, Any] = {}
    if "SUBMITIT_EXECUTOR" in os.environ and threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in _SCHEDULER}
        handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda number, frame: heard.append(number))
    try:
        yield heard
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number in heard:
        handlers[number](number, None)


def _is_settled(run: Run) -> bool:
    """Done, pruned, or with a record that is broken, which a person must mend."""
    if not is_run(run.path):
        return False
    try:
        record = run.record()
    except UsageError:
        return True
    return record.get("status") == "done" or bool(record.get("pruned"))


def _work(run: Run, command: Sequence[str], environment: Mapping[str, str], stopped: Callable[[], bool]) -> None:
    """Let a child train; returns once it has ended, with its end in run.json.

    Where this process is asked to end (Ctrl-C, a scheduler's requeue), or the sweep is, so is the child.
    """
    others = run.record().get("pid")
    with log_of(run.path).open("ab") as log:
        begin = log.tell()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
            env=dict(environment),
        )  # fmt: skip
        asked = False
        try:
            while (code := _ended(child, _POLL)) is None:
                if not asked and stopped():
                    asked = True
                    child.terminate()
        finally:
            if child.returncode is None:
                child.terminate()
                if _ended(child, _GRACE) is None:
                    child.kill()
                    child.wait()
    if code == 0 and run.record().get("status") == "running":
        run.update_record(status="failed", error="its process ended with exit code 0 before the run was", end=now())
    elif code != 0 and (code != UsageError.exit_code or others is None or run.record().get("pid") != others):
        _record_end(run, code, begin)  # else it is another process that works there, and tells its end itself


def _ended(child: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _record_end(run: Run, code: int, begin: int) -> None:
    """Make sure that run.json tells the end of a child that could not do so itself.

    `code`: its exit code, or minus the signal that ended it. `begin`: where in the log its own words begin.
    """
    if run.record().get("status") not in (None, "running"):
        return
    if code in (INTERRUPTED, TERMINATED):
        run.update_record(status="interrupted", end=now())
        return
    with log_of(run.path).open("rb") as log:
        log.seek(max(begin, log.seek(0, 2) - _LAST_LINES))
        said = re.findall(r"^error: (.*)$", log.read().decode(errors="replace"), re.MULTILINE)
    if code < 0:
        how = f"its process was ended by {signal.Signals(-code).name}"
    else:
        how = said[-1] if said else f"its process ended with exit code {code}"
    run.update_record(status="failed", error=how, end=now())
