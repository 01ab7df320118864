"""Several real processes that train: `train_on_ranks` starts them, each runs this file.

One start serves many runs, one after the other, since coming up takes longer than training.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

PATIENCE = 1800.0
SHORT = timedelta(seconds=15)


def train_on_ranks(
    count: int,
    folder: Path,
    runs: Mapping[str, Sequence[str]],
    *,
    around_the_wrapper: bool = False,
    slow_disk: bool = False,
    planted: str = "",
) -> str:
    """Train runs of these names and overrides below `folder`; returns what the ranks said. One that is there already
    goes on. `around_the_wrapper`: passes are not those of torch's wrapper, which then sums no gradients. `slow_disk`:
    the first rank writes its optimizer for longer than gradients may wait. `planted`: lines of a program that each rank
    runs first."""
    (folder / "runs.json").write_text(json.dumps(runs))
    (folder / "planted.py").write_text(planted)
    flags = [*(["--around"] if around_the_wrapper else []), *(["--slow-disk"] if slow_disk else [])]
    return started(count, __file__, *flags, str(folder))


def started(count: int, *script: str) -> str:
    """Run a script of the tests on so many ranks to its end; returns what it printed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), *script]
    tests, environment = Path(__file__).parents[1], {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tests), environment.get("PYTHONPATH", "")])
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.stdout + done.stderr


def take_long_to_save() -> None:
    """Of the first rank alone: the others write no optimizer."""
    import torch

    save = torch.save

    def saved(state: object, file: object, *more: object, **named: object) -> None:
        if str(file).endswith("optimizer.pt"):
            time.sleep(1.5 * SHORT.total_seconds())
        save(state, file, *more, **named)  # type: ignore[arg-type]

    torch.save = saved  # type: ignore[assignment]


def main() -> None:
    from msgrpo_cli.common.importing import importing, imports_stay

    imports_stay()
    with importing():
        from msgrpo_cli.config.compose import compose
        from msgrpo_cli.runs.directory import is_run
        from msgrpo_cli.training.parallel.ranks import Ranks
        from msgrpo_cli.training.train import follow_job, train_job

    if "--around" in sys.argv:
        from msgrpo_cli.training import trainer

        class Around:
            def __call__(self, wrapper: object, bare: object, method: object, *args: object) -> object:
                return method(*args)  # type: ignore[operator]

        trainer._ForwardRedirection = Around  # type: ignore[assignment,misc]
    slow = "--slow-disk" in sys.argv
    if slow:
        take_long_to_save()
    ranks, folder = Ranks.joined(**({"timeout": SHORT} if slow else {})), Path(sys.argv[-1])
    exec((folder / "planted.py").read_text(), {"ranks": ranks})
    for name, overrides in json.loads((folder / "runs.json").read_text()).items():
        config, run = compose("train", overrides), folder / name
        if ranks.first:
            resume = run if is_run(run) else None
            train_job(config, run, command=["test"], overrides=list(overrides), resume=resume, ranks=ranks)
        else:
            follow_job(run, ranks)


if __name__ == "__main__":
    main()
