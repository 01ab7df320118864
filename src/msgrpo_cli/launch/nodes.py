"""The processes of a run on several machines of a SLURM allocation: srun starts an agent on each, all speak through a
folder in the run's directory, which every node must see.

Knows SLURM's variables and `srun`. Knows nothing about what an agent's ranks do: `ranks` does.

    msgrpo train ──► srun ──► on each node: `python -m msgrpo_cli.launch.nodes FOLDER` ──► its ranks
         ▲                                    │ node-0 says in FOLDER where the others find it
         └──── FOLDER: what came of each rank and of each agent ◄──┘

A signal to the first process goes to srun as SIGUSR1, which srun hands to every agent; an agent asks its ranks to end,
and one rank that is asked is enough.
"""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgrpo_cli.common.files import write_text
from msgrpo_cli.common.lock import locked
from msgrpo_cli.common.signals import asked_to_end, heed_signals, heeding, safe_point
from msgrpo_cli.common.text import one_line
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import TERMINATED, Interrupted, RunError, UsageError
from msgrpo_cli.runs.directory import Run, left_interrupted

from . import ranks
from .heartbeats import Heartbeats
from .ranks import Agent, Job, Lost, Meeting, Result, outcome_of, processes, record_end

_TICK = 0.2  # seconds between two looks
_LEAVE = 30.0  # seconds that agents have to be gone once they are asked to end at once
_AFTER = 25
"""Looks for which an agent without ranks waits for torch to say how they ended, once another agent has ended."""
_PLACE = ".ranks"
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


def work_on(
    config: RunConfig, run_dir: Path, *, command: list[str], overrides: list[str], resume: Path | None = None
) -> dict[str, Any]:
    """As `ranks.work_on`, on as many nodes as `parallel` asks for."""
    if config.parallel.nodes == 1:
        return ranks.work_on(config, run_dir, command=command, overrides=overrides, resume=resume)
    run = run_dir.absolute()
    with _shared(run) as folder:
        job = Job(config, run, list(command), list(overrides), None if resume is None else resume.absolute())
        job.write(folder)
        beats = Heartbeats(folder, 0, config.parallel.patience)
        code, asked = _stepped(srun_line(config, folder), beats, config.parallel.nodes, Run(run))
        return _outcome(job, beats, code, asked)


def check_nodes(config: RunConfig) -> None:
    """Raise UsageError where this is no place to start a run of several nodes from."""
    nodes = config.parallel.nodes
    if nodes == 1:
        return
    if "SLURM_JOB_ID" not in os.environ:
        raise UsageError(
            f"parallel.nodes={nodes}: this is no SLURM allocation (no SLURM_JOB_ID); queue it with msgrpo sweep "
            f"hydra/launcher=slurm parallel.nodes={nodes} ..., or make the run with msgrpo train --prepare, which "
            "prints the torchrun line for every machine"
        )
    allocated = os.environ.get("SLURM_JOB_NUM_NODES", os.environ.get("SLURM_NNODES", ""))
    if allocated.isdigit() and int(allocated) < nodes:
        raise UsageError(
            f"parallel.nodes={nodes}: this SLURM allocation has {allocated}; ask for more (sbatch --nodes={nodes}), or "
            f"give parallel.nodes={allocated}"
        )
    if shutil.which("srun") is None:
        raise UsageError(f"parallel.nodes={nodes}: there is no srun on the PATH, which starts the others")


def srun_line(config: RunConfig, folder: Path) -> list[str]:
    """The command that starts an agent on every node.

    It may run inside another step (`--overlap`), leaves all cores of a node to its one task (`--cpu-bind=none`), and
    ends no agent because another has ended: ranks tell each other, and save.
    """
    nodes = config.parallel.nodes
    return [
        *("srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--overlap", "--cpu-bind=none"),
        *("--kill-on-bad-exit=0", "--wait=0", sys.executable, "-P", "-u", "-m", "msgrpo_cli.launch.nodes", str(folder)),
    ]


def torchrun_line(config: RunConfig, run: Path) -> str:
    """What is typed on every machine where no SLURM starts the agents; HOST:PORT is one of them and a free port."""
    count = config.parallel.processes or "gpu"
    return shlex.join([
        *("torchrun", f"--nnodes={config.parallel.nodes}", f"--nproc-per-node={count}", "--max-restarts=0"),
        *("--rdzv-backend=c10d", "--rdzv-endpoint=HOST:PORT", f"--rdzv-id={run.name}"),
        *("--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGUSR1,SIGUSR2", "--shutdown-timeout=600"),
        *("-m", "msgrpo_cli.worker", str(run)),
    ])  # fmt: skip


@contextmanager
def _shared(run: Path) -> Iterator[Path]:
    """A folder that all nodes see; what a start that was killed left there is removed.

    Raises UsageError where the run is started from elsewhere, too.
    """
    place = run / _PLACE
    place.mkdir(exist_ok=True)
    with locked(place):
        for left in place.glob("start-*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix="start-", dir=place))
        try:
            yield folder
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _stepped(line: list[str], beats: Heartbeats, nodes: int, run: Run) -> tuple[int, BaseException | None]:
    """Let srun work; its exit code, and what asked this process to end meanwhile."""
    asked: BaseException | None = None
    step = subprocess.Popen(
        line, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True, preexec_fn=_end_with_parent
    )  # a terminal's Ctrl-C is this process's; stdout is for results alone

    def kill() -> None:
        for _ in range(2):  # an agent ends its ranks and itself on the second
            step.terminate()
            time.sleep(_TICK)

    def at_once() -> None:
        kill()
        left_interrupted(run)

    with heeding(None, at_once, heard=b""):
        told = False
        while step.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                step.wait(_TICK)
            words = Word.all_in(beats.folder)
            if len(words) == nodes:
                beats.count = sum(word.ranks for word in words)
            asked = asked_to_end()
            if asked is not None and not told and (told := len(words) in (0, nodes)):
                step.send_signal(signal.SIGUSR1 if words else signal.SIGTERM)  # some alone would not heed it yet
            if beats.standstill() is not None:
                kill()
                with suppress(subprocess.TimeoutExpired):
                    step.wait(_LEAVE)
                step.kill()
    return step.returncode, asked


def _end_with_parent() -> None:
    """In srun, before it is srun: where the first process is killed, all end, as if they were asked to."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGUSR1)


def _outcome(job: Job, beats: Heartbeats, code: int, asked: BaseException | None) -> dict[str, Any]:
    """What the first rank gives. Raises the error that ended the run."""
    results, words = Result.all_in(beats.folder), Word.all_in(beats.folder)
    failures = {rank: lost for word in words for rank, lost in word.failures.items()}
    problem = next((word.problem for word in words if word.problem), None)
    if not results and asked is None and any(word.asked for word in words):
        asked = Interrupted("asked to end before it began", TERMINATED)
    if not results and asked is not None and beats.ended is None:
        left_interrupted(Run(job.run))
        raise asked
    if not words:
        raise RunError(f"srun ended with exit code {code} before it started anything; what it said stands above")
    gone = next((word for word in words if not word.ended), None)
    killed = any(lost.exitcode < 0 for lost in failures.values())
    try:
        return outcome_of(
            job, results, failures, RunError(problem) if problem else None, beats, asked=asked is not None
        )
    except Interrupted as error:
        if asked is not None:
            raise asked from None
        if gone is None or killed:
            raise error
    except RunError:
        if beats.ended or gone is None or killed or any(result.own for result in results):
            raise
    assert gone is not None
    lost_agent = RunError(f"{gone.place} is gone; go on with --resume")  # its ranks have asked all to end
    record_end(Run(job.run), lost_agent)
    raise lost_agent


@dataclass
class Word:
    """What an agent says of itself, in the shared folder."""

    node: int
    host: str = field(default_factory=lambda: os.environ.get("SLURMD_NODENAME") or socket.gethostname())
    pid: int = field(default_factory=os.getpid)
    endpoint: str | None = None
    """Of the first node: where the others find it."""
    ranks: int = 0
    """How many it starts."""
    asked: bool = False
    """To end."""
    ended: bool = False
    failures: dict[int, Lost] = field(default_factory=dict)
    problem: str | None = None

    @property
    def place(self) -> str:
        return f"the agent of node {self.node} (process {self.pid} on {self.host})"

    def others_ended(self, folder: Path) -> bool:
        """Whether another node's agent has."""
        return any(word.ended for word in Word.all_in(folder) if word.node != self.node)

    def say(self, folder: Path) -> None:
        lost = {rank: [lost.pid, lost.exitcode] for rank, lost in self.failures.items()}
        with suppress(OSError):  # the folder is gone: nobody listens
            write_text(folder / f"node-{self.node}.json", json.dumps({**self.__dict__, "failures": lost}))

    @classmethod
    def all_in(cls, folder: Path) -> list[Word]:
        found = []
        for path in sorted(folder.glob("node-*.json")):
            data = json.loads(path.read_text(encoding="utf-8"))
            lost = {int(rank): Lost(*one) for rank, one in data["failures"].items()}
            found.append(cls(**{**data, "failures": lost}))
        return found


def main() -> None:
    """An agent's work; ends the process."""
    heed_signals()
    folder, mine = Path(sys.argv[1]), Word(int(os.environ["SLURM_PROCID"]))
    try:
        job = Job.read(folder)
        mine.ranks = processes(job.config)
        with heeding(None, lambda: None, heard=b""):
            meeting = _met(folder, mine, job.config.parallel.nodes)
        if not mine.ranks:
            raise RunError(f"{mine.host} has no GPU to count; give parallel.processes")
        agent = Agent(folder, mine.ranks, meeting)
        mine.asked = agent.watch(lambda: None, _nothing_left(agent, folder, mine)) is not None
        mine.failures = agent.failures
        mine.problem = None if agent.problem is None else one_line(agent.problem)
    except Interrupted:
        mine.asked = True
    except Exception as error:  # noqa: BLE001 - the outermost boundary; the first process tells it
        mine.problem = one_line(error)
    mine.ended = True
    mine.say(folder)
    sys.stderr.flush()
    os._exit(RunError.exit_code if mine.failures or mine.problem else 0)  # torch may still wait in its thread


def _met(folder: Path, mine: Word, nodes: int) -> Meeting:
    """Where the agents meet: on a free port of the first node, which says so in the folder."""
    if mine.node == 0:
        with socket.create_server(("", 0)) as free:
            mine.endpoint = f"{mine.host}:{free.getsockname()[1]}"
    mine.say(folder)
    while True:
        safe_point()
        endpoint = next((word.endpoint for word in Word.all_in(folder) if word.node == 0), None)
        if endpoint is not None:
            return Meeting(nodes, endpoint, mine.host, {"is_host": mine.node == 0}, folder.name)
        if mine.others_ended(folder):
            raise RunError(f"{mine.host}: another node's agent has ended before this one began")
        time.sleep(_TICK)


def _nothing_left(agent: Agent, folder: Path, mine: Word) -> Callable[[], bool]:
    """Whether an agent may leave: before it has ranks, where it is asked to end or another agent has ended; when its
    ranks and another agent have ended.

    torch's agent whose ranks ended well waits five minutes for the others, also for one whose ranks failed.
    """
    begun, looks = False, 0

    def leave() -> bool:
        nonlocal begun, looks
        if agent.children():
            begun, looks = True, 0
            return False
        if not begun:
            return asked_to_end() is not None or mine.others_ended(folder)
        looks += mine.others_ended(folder)
        return looks >= _AFTER

    return leave


if __name__ == "__main__":
    main()
