"""The processes of a run: started by torch's elastic agent, as torchrun does it, watched, and asked to end together.

Knows processes, signals, and the folder through which a run's parent and its ranks tell each other what is to be done
and what came of it. Knows nothing about how ranks share the work: `training/parallel` does.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from msgrpo_cli.common.cores import threads_of_each
from msgrpo_cli.common.signals import PARENT, asked_to_end, heeding
from msgrpo_cli.common.text import one_line
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import INTERRUPTED, Interrupted, RunError
from msgrpo_cli.runs.directory import Run, left_interrupted

_TICK = 0.2  # seconds between two looks at the ranks
_MODULE = "msgrpo_cli.worker"


def work_on(
    config: RunConfig, run_dir: Path, *, command: list[str], overrides: list[str], resume: Path | None = None
) -> dict[str, Any]:
    """Train, or go on training, in this process or in those that `parallel` asks for; as `training.train.train_job`."""
    if config.parallel.name == "none":
        from msgrpo_cli.training.train import train_job  # heavy; by now a killed run can be resumed

        return train_job(config, run_dir, command=command, overrides=overrides, resume=resume)
    job = Job(config, run_dir.absolute(), list(command), list(overrides), resume)
    folder = Path(tempfile.mkdtemp(prefix="msgrpo-ranks-"))
    try:
        job.write(folder)
        agent = Agent(folder, processes(config))
        agent.watch(lambda: left_interrupted(Run(job.run)))
        return outcome_of(job, Result.all_in(folder), agent.failures, agent.problem)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def processes(config: RunConfig) -> int:
    """How many a run has on each node; 0 where the GPUs are to be counted and there are none."""
    if config.parallel.name == "none":
        return 1
    if config.parallel.processes is not None:
        return config.parallel.processes
    import torch

    return torch.cuda.device_count()


@dataclass(frozen=True)
class Job:
    """What the ranks are to do."""

    config: RunConfig
    run: Path
    command: list[str]
    overrides: list[str]
    resume: Path | None
    import_from: list[str] = field(default_factory=lambda: list(sys.path))
    """Where this process finds modules: games of a user's own."""

    def write(self, folder: Path) -> None:
        (folder / "job.pickle").write_bytes(pickle.dumps(self))

    @staticmethod
    def lies_in(folder: Path) -> bool:
        return (folder / "job.pickle").is_file()

    @classmethod
    def read(cls, folder: Path) -> Job:
        job: Job = pickle.loads((folder / "job.pickle").read_bytes())
        sys.path += [path for path in job.import_from if path not in sys.path]
        return job


@dataclass
class Result:
    """What came of a rank's work, left in the folder that the job lies in."""

    folder: Path | None
    """None: nobody waits for it."""
    rank: int
    outcome: dict[str, Any] | None = None
    error: BaseException | None = None
    moment: float = 0.0
    host: str = field(default_factory=socket.gethostname)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Around the work: whatever comes of it is written down."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - the outermost boundary of a rank; the parent tells it
            error.add_note(f"on rank {self.rank}:\n{traceback.format_exc()}")  # which `-v` shows
            self.error = error
        self.moment = time.time()
        if self.folder is None:
            return
        try:
            written = pickle.dumps(self)
        except Exception:  # noqa: BLE001 - whatever pickle raises of an exception that it cannot keep
            assert self.error is not None
            self.error = RunError(f"{type(self.error).__name__}: {one_line(self.error)}")
            written = pickle.dumps(self)
        with suppress(OSError):  # the folder is gone: nobody waits
            (self.folder / f"rank-{self.rank}.pickle").write_bytes(written)

    @property
    def exit_code(self) -> int:
        return 0 if self.error is None else getattr(self.error, "exit_code", RunError.exit_code)

    @classmethod
    def all_in(cls, folder: Path) -> list[Result]:
        """Of the ranks that left one, the earliest first."""
        found = []
        for path in folder.glob("rank-*.pickle"):
            with suppress(Exception):  # cut off in the midst of writing
                found.append(pickle.loads(path.read_bytes()))
        return sorted(found, key=lambda result: result.moment)


@dataclass(frozen=True)
class Lost:
    """A rank that did not end well, as its agent saw it."""

    pid: int
    exitcode: int
    """Minus the signal that ended it."""
    host: str | None = None
    """Where there are several."""


@dataclass(frozen=True)
class Meeting:
    """Where the agents of a run find each other; there is one on each node."""

    nodes: int = 1
    endpoint: str = "localhost:0"  # a free port: several runs may share a machine
    address: str = "localhost"
    """By which the ranks of other nodes reach those of this one."""
    options: dict[str, Any] = field(default_factory=dict)
    name: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass
class Agent:
    """torch's agent in a thread: it starts the ranks of a node, and ends all of them where one fails."""

    folder: Path
    count: int
    meeting: Meeting = Meeting()
    failures: dict[int, Lost] = field(default_factory=dict)
    problem: BaseException | None = None

    def run(self) -> None:
        """Start the ranks and wait for their end; what went wrong is kept in `failures` and `problem`."""
        from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

        for name in list(logging.root.manager.loggerDict):  # what goes wrong is told by the parent, in its own words
            if name.startswith("torch.distributed.elastic"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
        quiet = dict.fromkeys(range(1, self.count), Std.ALL)
        config = LaunchConfig(
            min_nodes=self.meeting.nodes,
            max_nodes=self.meeting.nodes,
            nproc_per_node=self.count,
            run_id=self.meeting.name,
            rdzv_backend="c10d",
            rdzv_endpoint=self.meeting.endpoint,
            rdzv_configs=dict(self.meeting.options),
            local_addr=self.meeting.address,
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=str(self.folder / "logs"), redirects=quiet),
        )
        try:
            elastic_launch(config, sys.executable)("-P", "-u", "-m", _MODULE, str(self.folder))
        except ChildFailedError as error:
            self.failures = {rank: Lost(lost.pid, lost.exitcode) for rank, lost in error.failures.items()}
        except BaseException as error:  # noqa: BLE001 - told in the thread that waits for this one
            self.problem = error

    def watch(
        self, last_words: Callable[[], object], leave: Callable[[], bool] = lambda: False
    ) -> BaseException | None:
        """Until the ranks have ended, or until `leave` says so; they are asked to end where this process is.

        Returns what asked it.

        `last_words`: for a second signal, which ends the ranks and this process at once.
        """

        def at_once() -> None:
            self.signal(signal.SIGKILL)
            last_words()

        import torch.distributed.launcher.api  # noqa: F401 - heavy; not in a thread, where a signal could cut it off

        thread = threading.Thread(target=self.run, name="ranks", daemon=True)
        told, asked = False, None
        with _environment(self.count), heeding(None, at_once, heard=b""):
            thread.start()
            while thread.is_alive() and not leave():
                thread.join(_TICK)
                asked = asked_to_end()
                if asked is not None and not told and self.children():
                    told = True
                    interrupted = isinstance(asked, Interrupted) and asked.exit_code == INTERRUPTED
                    self.signal(signal.SIGINT if interrupted else signal.SIGTERM)
        return asked

    def children(self) -> list[psutil.Process]:
        """The ranks that live."""
        found = []
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                if str(self.folder) in child.cmdline():
                    found.append(child)
        return found

    def signal(self, number: int) -> None:
        for child in self.children():
            with suppress(psutil.Error):
                child.send_signal(number)


@contextmanager
def _environment(count: int) -> Iterator[None]:
    """What the ranks inherit: their parent, and their share of the cores."""
    given = {
        PARENT: str(os.getpid()),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads_of_each(count))),
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def outcome_of(
    job: Job, results: Sequence[Result], failures: Mapping[int, Lost], problem: BaseException | None
) -> dict[str, Any]:
    """What the first rank gives. Raises the error that ended the run."""
    first = next((result for result in results if result.rank == 0), None)
    if first is not None and first.outcome is not None:
        return first.outcome
    error = _what_ended(results, failures, problem)
    if not isinstance(error, Interrupted):
        record_end(Run(job.run), error)
    raise error


def _what_ended(
    results: Sequence[Result], failures: Mapping[int, Lost], problem: BaseException | None
) -> BaseException:
    """A rank that was killed, else what failed by itself (the first rank says it best, then the earliest), else the
    interruption that all heard of."""
    from msgrpo_cli.training.parallel.ranks import PeerLost

    for rank, lost in sorted(failures.items()):
        if lost.exitcode < 0:
            name, place = signal.Signals(-lost.exitcode).name, f" on {lost.host}" if lost.host else ""
            return RunError(f"rank {rank} (process {lost.pid}{place}) was ended by {name}; go on with --resume")
    errors = [(result.rank, result.error) for result in results if result.error is not None]
    own = [(rank, error) for rank, error in errors if not isinstance(error, (PeerLost, Interrupted))]
    own.sort(key=lambda one: one[0] != 0)
    interruptions = [error for _, error in errors if isinstance(error, Interrupted)]
    for error in (*(error for _, error in own), *interruptions, *(error for _, error in errors)):
        return error
    if problem is not None:
        return RunError(f"the processes could not be started: {one_line(problem)}")
    codes = ", ".join(f"rank {rank} with exit code {lost.exitcode}" for rank, lost in sorted(failures.items()))
    return RunError(f"the run's processes ended without a word: {codes or 'all of them'}")


def record_end(run: Run, error: BaseException) -> None:
    """The run's record names what ended it, not what the first rank saw of it."""
    with suppress(OSError):
        record = run.record()
        if record.get("status") in ("running", "failed") and record.get("pid") is not None:
            run.finish("failed", f"{type(error).__name__}: {error}")
