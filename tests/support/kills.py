"""Runs that are killed at random moments, resumed, and compared with an uninterrupted one.

`python tests/support/kills.py --kills 100 --out experiments/kill_test/results.csv` is `make kill-test`; the test
suite does three of them. A chain is one run that is killed several times, each time in the process that resumed it.

A kill comes after a time drawn uniformly from the duration of the uninterrupted run, or on sight of a name that is
there only while something is being written or removed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

OVERRIDES = (
    "experiment=smoke", "max_updates=4", "algo.groups_per_update=4", "algo.optimizer_steps=2", "trainer.beta=0.05",
    "eval.every=2", "eval.episodes=16", "save.every=1", "save.keep_last=2",
)  # fmt: skip
SIGHTS = ("checkpoints/.partial", "checkpoints/.partial/*/optimizer.pt", "checkpoints/.*.old", ".*.tmp", "eval/.*.tmp")
_KILLS_PER_CHAIN = 4
_PATIENCE = 600.0


@dataclass(frozen=True)
class Kill:
    """What is recorded of one kill."""

    chain: int
    kill: int
    rule: str
    seconds: float
    """From the start of the process to its death."""
    updates: int
    """Recorded when it died."""
    checkpoint: str
    """The latest directory under checkpoints/ then."""


@dataclass(frozen=True)
class Chain:
    """One run: its kills, and whether it equals the uninterrupted run in the end."""

    kills: tuple[Kill, ...]
    differences: tuple[str, ...]


def start(*arguments: str, folder: Path) -> subprocess.Popen[bytes]:
    """The real program in a process of its own, with one thread."""
    command = [sys.executable, "-m", "msgrpo_cli", "train", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (folder / "stderr.txt").open("ab") as err:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=err)


def straight(folder: Path) -> tuple[Path, float]:
    """An uninterrupted run, and its seconds."""
    began = time.monotonic()
    process = start(*OVERRIDES, "hydra.run.dir=straight", folder=folder)
    if process.wait(_PATIENCE) != 0:
        raise RuntimeError((folder / "stderr.txt").read_text())
    return folder / "straight", time.monotonic() - began


def chain(number: int, folder: Path, reference: Path, duration: float, kills: int) -> Chain:
    """Kill a run `kills` times, resuming it in between, then let it end and compare it with `reference`."""
    rng = random.Random(number)
    run = folder / f"chain-{number}"
    done: list[Kill] = []
    while len(done) < kills:
        process = _go(run, folder)
        began, rule = time.monotonic(), _rule(rng, duration)
        if not _wait(process, run, rule, duration):
            if process.returncode != 0:
                break
            continue  # it came to its end before the moment came: the next one resumes a finished run
        done.append(Kill(number, len(done) + 1, rule[0], round(time.monotonic() - began, 2), *_state(run)))
    process = _go(run, folder)
    code = process.wait(_PATIENCE)
    found = [] if code == 0 else [f"exit code {code}"]
    return Chain(tuple(done), tuple(found + list(differences(run, reference))))


def _go(run: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Start the run, or go on with it from the moment it exists."""
    if (run / "run.json").exists():
        return start("--resume", str(run), folder=folder)
    return start(*OVERRIDES, f"hydra.run.dir={run.name}", folder=folder)


def _rule(rng: random.Random, duration: float) -> tuple[str, float]:
    """(name, seconds or 0): at a time, or on sight of a name."""
    if rng.random() < 0.5:
        seconds = rng.uniform(0, duration)
        return f"after {seconds:.2f} s", seconds
    return rng.choice(SIGHTS), 0.0


def _wait(process: subprocess.Popen[bytes], run: Path, rule: tuple[str, float], duration: float) -> bool:
    """Kill the process once the rule says so; False where it ended before."""
    name, seconds = rule
    began = time.monotonic()
    stale = set() if seconds else set(run.glob(name))  # left by an earlier kill; counts once it is gone and back
    while process.poll() is None:
        there = set() if seconds else set(run.glob(name))
        stale &= there
        if (seconds and time.monotonic() - began >= seconds) or there - stale:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        if time.monotonic() - began > _PATIENCE:
            raise TimeoutError(f"{run}: {name} after {_PATIENCE} s")
        time.sleep(0.0005)
    return False


def _state(run: Path) -> tuple[int, str]:
    metrics = run / "metrics.jsonl"
    updates = metrics.read_text().count('"kind": "train"') if metrics.exists() else 0
    names = sorted(path.name for path in (run / "checkpoints").glob("*")) if run.exists() else []
    return updates, names[-1] if names else "-"


def differences(run: Path, reference: Path) -> Iterator[str]:
    """What is not as in the uninterrupted run; clocks aside."""
    for name, read in (("metrics.jsonl", _without_clock), ("episodes.jsonl", Path.read_bytes)):
        if not (run / name).exists() or read(run / name) != read(reference / name):
            yield name
    for name in ("eval/base.json", "eval/best.json"):
        if not (run / name).exists() or _scores(run / name) != _scores(reference / name):
            yield name
    kept = [sorted(path.name for path in (folder / "checkpoints").glob("*")) for folder in (run, reference)]
    if kept[0] != kept[1]:
        yield f"checkpoints {kept[0]} instead of {kept[1]}"
    else:
        for name in kept[1]:
            weights = Path("checkpoints") / name / "model.safetensors"
            if (run / weights).read_bytes() != (reference / weights).read_bytes():
                yield str(weights)


def _without_clock(path: Path) -> bytes:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [{key: value for key, value in row.items() if not key.startswith("perf/")} for row in rows]
    return "\n".join(map(json.dumps, kept)).encode()


def _scores(path: Path) -> dict[str, object]:
    return {key: value for key, value in json.loads(path.read_text()).items() if key != "wall_seconds"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    chains = -(-options.kills // _KILLS_PER_CHAIN)
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(options.jobs) as pool:
        folder = Path(name)
        reference, duration = straight(folder)
        sizes = [min(_KILLS_PER_CHAIN, options.kills - _KILLS_PER_CHAIN * i) for i in range(chains)]
        jobs = [pool.submit(chain, i, folder, reference, duration, size) for i, size in enumerate(sizes)]
        options.out.parent.mkdir(parents=True, exist_ok=True)
        same = killed = 0
        with options.out.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*(field.name for field in fields(Kill)), "same"])
            for job in jobs:
                ended = job.result()
                verdict = "; ".join(ended.differences) or "yes"
                writer.writerows([*asdict(kill).values(), verdict] for kill in ended.kills)
                file.flush()
                killed += len(ended.kills)
                same += 0 if ended.differences else len(ended.kills)
                print(f"{killed} kills, {same} of them in runs equal to the uninterrupted one", flush=True)
    print(f"{same} of {killed}")
    sys.exit(0 if same == killed == options.kills else 1)


if __name__ == "__main__":
    main()
