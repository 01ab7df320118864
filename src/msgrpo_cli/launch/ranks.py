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
from msgrpo_cli.common.importing import importing
from msgrpo_cli.common.signals import PARENT, asked_to_end, heeding
from msgrpo_cli.common.text import one_line
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import INTERRUPTED, Interrupted, RunError
from msgrpo_cli.runs.directory import Run, left_interrupted
from msgrpo_cli.training.parallel.blame import blamed, naming
from msgrpo_cli.training.parallel.heartbeat import Heartbeat

from .heartbeats import Heartbeats

_TICK = 0.2  # seconds between two looks at the ranks
_LEAVE = 30.0  # seconds that ranks have to be gone once they are killed
_MODULE = "msgrpo_cli.worker"


def work_on(
    config: RunConfig, run_dir: Path, *, command: list[str], overrides: list[str], resume: Path | None = None
) -> dict[str, Any]:
    """Train, or go on training, in this process or in those that `parallel` asks for; as `training.train.train_job`."""
    if config.parallel.name == "none":
        with importing():
            from msgrpo_cli.training.train import train_job  # heavy; by now a killed run can be resumed

        return train_job(config, run_dir, command=command, overrides=overrides, resume=resume)
    job = Job(config, run_dir.absolute(), list(command), list(overrides), resume)
    folder = Path(tempfile.mkdtemp(prefix="msgrpo-ranks-"))
    try:
        job.write(folder)
        agent = Agent(folder, processes(config))
        beats = Heartbeats(folder, agent.count, config.parallel.patience)
        asked = agent.watch(lambda: left_interrupted(Run(job.run)), standstill=beats.standstill)
        return outcome_of(job, Result.all_in(folder), agent.failures, agent.problem, beats, asked=asked is not None)
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
    whose: str | None = None
    """The rank that the error is of, its host and phase."""
    moment: float = 0.0

    @contextmanager
    def kept(self, beat: Heartbeat) -> Iterator[None]:
        """Around the work: whatever comes of it is written down."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - the outermost boundary of a rank; the parent tells it
            error.add_note(f"on rank {self.rank}:\n{traceback.format_exc()}")  # which `-v` shows
            self.error, self.whose = error, _whose(error, beat)
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

    @property
    def own(self) -> bool:
        """Whether the rank failed by itself: it has not merely lost another, or heard that all are to end."""
        from msgrpo_cli.training.parallel.ranks import PeerLost

        return self.error is not None and not isinstance(self.error, (PeerLost, Interrupted))

    @classmethod
    def all_in(cls, folder: Path) -> list[Result]:
        """Of the ranks that left one, the earliest first."""
        found = []
        for path in folder.glob("rank-*.pickle"):
            with suppress(Exception):  # cut off in the midst of writing
                found.append(pickle.loads(path.read_bytes()))
        return sorted(found, key=lambda result: result.moment)


def _whose(error: BaseException, beat: Heartbeat) -> str:
    """Of whom it is that a rank ends with this error: its own, but where another one was blamed."""
    count = os.environ.get("WORLD_SIZE", "1")
    return blamed(error) or f"rank {beat.rank} of {count} on {socket.gethostname()}, during {beat.phase}"


@dataclass(frozen=True)
class Lost:
    """A rank that did not end well, as its agent saw it."""

    pid: int
    exitcode: int
    """Minus the signal that ended it."""


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
        self,
        last_words: Callable[[], object],
        leave: Callable[[], bool] = lambda: False,
        standstill: Callable[[], object] = lambda: None,
    ) -> BaseException | None:
        """Until the ranks have ended, or until `leave` says so; they are asked to end where this process is, and killed
        once there is a `standstill`.

        Returns what asked it.

        `last_words`: for a second signal, which ends the ranks and this process at once.
        """

        def at_once() -> None:
            self.signal(signal.SIGKILL)
            last_words()

        with importing():
            import torch.distributed.launcher.api  # noqa: F401 - not in a thread, where a signal could cut it off

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
                if standstill() is not None:
                    self.signal(signal.SIGKILL)  # a rank that hangs hears nothing else
                    thread.join(_LEAVE)  # one that the kernel holds, for a disk that hangs, not even that
                    break
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
    job: Job,
    results: Sequence[Result],
    failures: Mapping[int, Lost],
    problem: BaseException | None,
    beats: Heartbeats,
    *,
    asked: bool,
) -> dict[str, Any]:
    """What the first rank gives. Raises the error that ended the run."""
    first = next((result for result in results if result.rank == 0), None)
    if first is not None and first.outcome is not None:
        return first.outcome
    error = beats.ended or _what_ended(results, failures, problem, beats, asked=asked)
    if not isinstance(error, Interrupted):
        record_end(Run(job.run), error)
    raise error


def _what_ended(
    results: Sequence[Result],
    failures: Mapping[int, Lost],
    problem: BaseException | None,
    beats: Heartbeats,
    *,
    asked: bool,
) -> BaseException:
    """A rank that was killed, else what failed by itself (the first rank says it best, then the earliest), else the
    interruption that all heard of. Names rank, host and phase, but where the program itself was `asked` to end."""
    for rank, lost in sorted(failures.items()):
        if lost.exitcode < 0:
            name = signal.Signals(-lost.exitcode).name
            return RunError(f"{beats.named(rank, lost.pid)} was ended by {name}; go on with --resume")
    failed = [result for result in results if result.error is not None]
    own = [result for result in failed if result.own]
    own.sort(key=lambda result: result.rank != 0)
    interrupted = [result for result in failed if isinstance(result.error, Interrupted)]
    for result in (*own, *interrupted, *failed):
        assert result.error is not None
        return result.error if asked and result in interrupted else naming(result.error, str(result.whose))
    if problem is not None:
        return RunError(f"the processes could not be started: {one_line(problem)}")
    ends = sorted(failures.items())
    codes = ", ".join(f"{beats.named(rank, end.pid)} with exit code {end.exitcode}" for rank, end in ends)
    return RunError(f"the run's processes ended without a word: {codes or 'all of them'}")


def record_end(run: Run, error: BaseException) -> None:
    """The run's record names what ended it, not what the first rank saw of it."""
    with suppress(OSError):
        record = run.record()
        if record.get("status") in ("running", "failed") and record.get("pid") is not None:
            run.finish("failed", f"{type(error).__name__}: {error}")
