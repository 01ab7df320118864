"""Surroundings that a program must bear, each with a real process: no terminal, no home, no hub, two at once."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from support.snapshots import snapshot

pytestmark = pytest.mark.slow

SMOKE = ["experiment=smoke", "max_updates=1", "eval.episodes=4", "algo.groups_per_update=1", "eval.every=0"]
TRAIN = [sys.executable, "-m", "msgrpo_cli", "train", *SMOKE]


def surroundings(**changes: str) -> dict[str, str]:
    """The environment of the tests, in threads of one, with changes."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **changes}


def started(folder: Path, command: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=900)


def ended_well(folder: Path) -> bool:
    (record,) = folder.glob("outputs/*/*/run.json")
    return bool(json.loads(record.read_text())["status"] == "done")


def test_no_terminal_and_no_streams(tmp_path: Path) -> None:
    """stdin and stderr closed, as cron and service managers leave them: stdout still holds the directory alone."""
    shell = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *TRAIN]
    done = started(tmp_path, shell, surroundings())
    assert done.returncode == 0 and Path(done.stdout.removesuffix("\n")).is_dir()
    assert ended_well(tmp_path)


@pytest.mark.parametrize("way", ['exec "$@" 2>/dev/full', '"$@" 2>&1 >/dev/null | head -c 1 >/dev/null', "log"])
def test_what_cannot_be_told_decides_over_no_run(tmp_path: Path, way: str) -> None:
    """A full stderr, one whose reader has gone, and a log that cannot be written."""
    if way == "log":
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "log.txt").symlink_to("/dev/full")
        way = 'exec "$@"'
    done = started(tmp_path, ["sh", "-c", way, "sh", *TRAIN, "hydra.run.dir=run"], surroundings())
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "done"


def test_a_run_directory_that_is_removed_meanwhile(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        [*TRAIN, "max_updates=500", f"hydra.run.dir={run}"],
        cwd=tmp_path,
        env=surroundings(),
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (run / "metrics.jsonl").exists():
        time.sleep(0.05)
    shutil.rmtree(run, ignore_errors=True)
    _, err = process.communicate(timeout=600)
    assert (process.returncode, err.splitlines()[-1]) == (
        1,
        f"error: {run}: the run directory was removed while the run went on",
    )


def test_ended_before_the_work_began(tmp_path: Path) -> None:
    """While libraries are imported: the run is there, so it ends as interrupted and says how it goes on."""
    run = tmp_path / "run"
    process = subprocess.Popen(
        [*TRAIN, f"hydra.run.dir={run}"], cwd=tmp_path, env=surroundings(), stderr=subprocess.PIPE, text=True
    )
    while not (run / "run.json").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 143
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    # A library may swallow what is raised in its import; the run then ends at its first safe point, and says more.
    assert err.splitlines()[-2:] == [f"go on with: msgrpo train --resume {run}", "error: ended by SIGTERM"]


def test_a_mistake_without_streams(tmp_path: Path) -> None:
    done = started(tmp_path, ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *TRAIN, "seed=x"], surroundings())
    assert done.returncode == 2 and snapshot(tmp_path) == {}


@pytest.mark.parametrize("kind", ["dumb", "xterm-256color"])
def test_a_terminal_of_twenty_columns(tmp_path: Path, kind: str) -> None:
    """Everything goes to a terminal of 20 columns; nothing is asked, and the run ends."""
    mine, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 20, 0, 0))
    env = {key: value for key, value in surroundings(TERM=kind).items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    with subprocess.Popen(TRAIN, cwd=tmp_path, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                said += os.read(mine, 65536)
            except OSError:  # the other side has closed
                break
        assert process.wait(600) == 0, said.decode()
    os.close(mine)
    assert ended_well(tmp_path) and b"Traceback" not in said and b"error" not in said
    assert (b"\x1b[" in said) == (kind != "dumb"), "escape sequences only where the terminal takes them"
    words = "".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode()).split())
    assert "meanlength" in words, "the notes of the table were shown"


def test_home_and_cache_cannot_be_written(tmp_path: Path) -> None:
    """A file in place of every folder: no user, root included, writes below it."""
    nowhere = tmp_path / "file"
    nowhere.write_text("")
    work = tmp_path / "work"
    work.mkdir()
    places = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME", "MPLCONFIGDIR")
    env = surroundings(**{place: str(nowhere / place) for place in places})
    done = started(work, TRAIN, env)
    assert done.returncode == 0, done.stderr
    assert ended_well(work) and nowhere.read_text() == ""


def test_two_runs_in_the_same_second(tmp_path: Path) -> None:
    """The clock in the names of their directories does not tell them apart; what follows it does."""
    both = [
        subprocess.Popen(TRAIN, cwd=tmp_path, env=surroundings(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    places = [process.communicate(timeout=900)[0].decode().strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len(set(places)) == 2
    assert [json.loads((Path(place) / "run.json").read_text())["status"] for place in places] == ["done", "done"]


@pytest.mark.parametrize("answers", [True, False])
def test_a_hub_out_of_reach(tmp_path: Path, answers: bool) -> None:
    """A server that takes the connection and says nothing, and a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        if not answers:
            server.close()
        env = surroundings(HF_ENDPOINT=address, HF_HOME=str(tmp_path / "cache"), HF_HUB_OFFLINE="0")
        work = tmp_path / "work"
        work.mkdir()
        done = started(work, [*TRAIN, "model=qwen0.5b"], env)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert "model.path=Qwen/Qwen2.5-0.5B-Instruct: no such local directory, not in the local cache, and the hub" in line
    assert "Traceback" not in done.stderr and snapshot(work) == {}
