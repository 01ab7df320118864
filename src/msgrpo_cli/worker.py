"""`python -m msgrpo_cli.worker JOB`: one of several processes of a run, started by `launch/ranks.py`; with RUN for JOB
one of those that somebody starts with torchrun, on whatever machines.

Knows what a rank is given and where it leaves what came of it. Knows nothing about how the ranks are started or how
they train: `training/train.py` does.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from msgrpo_cli.common.console import say
from msgrpo_cli.common.importing import importing, imports_stay
from msgrpo_cli.common.signals import PARENT, follow_parent, heed_signals
from msgrpo_cli.config.saved import load_saved
from msgrpo_cli.errors import Interrupted, RunError, UsageError
from msgrpo_cli.launch.heartbeats import Heartbeats
from msgrpo_cli.launch.ranks import Job, Result, record_end
from msgrpo_cli.runs.directory import Run, find_run
from msgrpo_cli.training.parallel.heartbeat import Heartbeat

_AFTER_FIRST = 15.0  # seconds by which the others look longer than the first rank, which tells what it saw


def main() -> None:
    """The work of this rank; ends the process."""
    heed_signals()
    imports_stay()
    place, rank = Path(sys.argv[1]), int(os.environ.get("RANK", "0"))
    awaited = Job.lies_in(place)
    if not awaited:
        os.environ.setdefault(PARENT, str(os.getppid()))  # torchrun
    elif rank != 0:
        _be_quiet()
    follow_parent()
    beat = Heartbeat(rank, place if awaited else None)
    result = Result(place if awaited else None, rank)
    with result.kept(beat):
        job = Job.read(place) if awaited else _prepared(place, sys.argv[2:])
        if not awaited:
            beat.folder = _watched(job, rank)
        beat.begin()
        with importing():
            from msgrpo_cli.training.parallel.ranks import Ranks
            from msgrpo_cli.training.parallel.same_program import refuse_other_programs
            from msgrpo_cli.training.train import follow_job, train_job

        ranks = Ranks.joined(beat)
        refuse_other_programs(ranks)
        if ranks.first:
            logging.basicConfig(
                filename=job.run / "log.txt",
                level=logging.INFO,
                format="[%(asctime)s][%(name)s][%(levelname)s] %(message)s",
            )
            result.outcome = train_job(
                job.config, job.run, command=job.command, overrides=job.overrides, resume=job.resume, ranks=ranks
            )
        else:
            follow_job(job.run, ranks)
    if not awaited:
        _tell(result)
        if rank == 0 and beat.folder is not None:
            shutil.rmtree(beat.folder, ignore_errors=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(result.exit_code)  # threads of torch may still wait for a rank that is gone


def _prepared(place: Path, modules: Sequence[str]) -> Job:
    """Beginning, or going on with, a run that is there; `modules`: those whose games it may import."""
    if "RANK" not in os.environ:
        raise UsageError("msgrpo_cli.worker: one of several processes; start it with torchrun")
    run = find_run(str(place)).absolute()
    config = load_saved(run / "config.yaml", modules)
    if config.parallel.name == "none":
        raise UsageError(f"{run}: parallel.name=none is one process; use msgrpo train --resume {run}")
    return Job(config, run, list(sys.argv), [], resume=run)


def _watched(job: Job, rank: int) -> Path:
    """Where the ranks that torchrun started leave signs of life; a thread of each looks at all of them, and ends its
    rank where none moves: torchrun ends those of its own machine alone. The first rank is the first to go: were another
    one gone before it, it would end by that lost connection and tell no more."""
    folder = job.run / ".ranks" / f"torchrun-{os.environ.get('TORCHELASTIC_RUN_ID', 'run')}"
    folder.mkdir(parents=True, exist_ok=True)
    patience = job.config.parallel.patience + (0.0 if rank == 0 else _AFTER_FIRST)
    beats = Heartbeats(folder, int(os.environ["WORLD_SIZE"]), patience)

    def watch() -> None:
        while (told := beats.standstill()) is None:
            time.sleep(1.0)
        if rank == 0:
            say(told)
            record_end(Run(job.run), RunError(told))
        os._exit(RunError.exit_code)

    threading.Thread(target=watch, name="heartbeats", daemon=True).start()
    return folder


def _be_quiet() -> None:
    """The first rank says all that is to be said."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _tell(result: Result) -> None:
    """What the first process would tell, where there is none."""
    from msgrpo_cli.training.parallel.ranks import PeerLost

    if result.outcome is not None:
        print(result.outcome["run"])
    if result.error is None or isinstance(result.error, (PeerLost, Interrupted)):
        return
    if not isinstance(result.error, UsageError) or os.environ.get("LOCAL_RANK", "0") == "0":  # once on a machine
        say(f"rank {result.rank} on {socket.gethostname()}: {result.error}")


if __name__ == "__main__":
    main()
