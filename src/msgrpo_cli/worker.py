"""`python -m msgrpo_cli.worker JOB`: one of several processes of a run, started by torchrun or by `launch/ranks.py`.

Knows what a rank is given and where it leaves what came of it. Knows nothing about how the ranks are started or how
they train: `training/train.py` does.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from msgrpo_cli.common.signals import follow_parent, heed_signals
from msgrpo_cli.launch.ranks import Job, Result
from msgrpo_cli.training.parallel.heartbeat import Heartbeat


def main() -> None:
    """The work of this rank; ends the process."""
    heed_signals()
    follow_parent()
    folder = Path(sys.argv[1])
    beat = Heartbeat(int(os.environ["RANK"]), folder)
    beat.begin()
    result = Result(folder, beat.rank)
    with result.kept(beat):
        job = Job.read(folder)
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
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(result.exit_code)  # threads of torch may still wait for a rank that is gone


if __name__ == "__main__":
    main()
