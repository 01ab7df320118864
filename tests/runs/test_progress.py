"""progress.json: at most one write a second, always the latest phase, and never the end of a run."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

from msgrpo_cli.runs.progress import PhaseFile, read_progress


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def phase(path: Path) -> tuple[str, int, int] | None:
    found = read_progress(path)
    return None if found is None else (found.phase, found.finished, found.total)


def test_the_latest_phase_is_written_and_the_file_goes_with_the_work(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    with PhaseFile(path, every=0.02) as file:
        for finished in range(33):
            file.at("rollout", finished, 128)
        wait_for(lambda: phase(path) == ("rollout", 32, 128))
        found = json.loads(path.read_text())
        assert set(found) == {"schema", "phase", "finished", "total", "since", "pid", "host"}
        assert (found["pid"], found["host"]) == (os.getpid(), socket.gethostname())
        since = found["since"]
        file.at("rollout", 40, 128)
        wait_for(lambda: phase(path) == ("rollout", 40, 128))
        assert json.loads(path.read_text())["since"] == since, "it is the same phase"
        time.sleep(0.02)
        file.at("rollout", 0, 128)
        wait_for(lambda: phase(path) == ("rollout", 0, 128))
        assert json.loads(path.read_text())["since"] > since, "the same phase again is one of its own"
    assert list(tmp_path.iterdir()) == []


def test_no_more_than_one_write_in_its_time(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    began = time.monotonic()
    with PhaseFile(path, every=0.1) as file:
        seen: set[int] = set()
        for told in itertools.count():
            file.at("rollout", told, 0)
            if path.exists():
                seen.add(path.stat().st_mtime_ns)
            if len(seen) == 4:
                break
    assert time.monotonic() - began >= 3 * 0.1 and told > 4, "on a slow machine it takes longer, and never less"


def test_a_directory_that_is_gone_or_cannot_be_written_ends_nothing_and_is_not_made_anew(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with PhaseFile(run / "progress.json", every=0.01) as file:
        wait_for((run / "progress.json").exists)
        shutil.rmtree(run)
        for number in range(5):
            file.at("update", number, 5)
            time.sleep(0.02)
        assert not run.exists()
        run.write_text("a file now")
        file.at("checkpoint")
        time.sleep(0.05)
    assert run.read_text() == "a file now"


def test_a_file_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    for text in (
        "",
        "[]",
        "{}",
        '{"phase": 1, "other": 2}',
        "\udcff".encode(errors="surrogateescape").decode("latin-1"),
    ):
        path.write_text(text)
        assert read_progress(path) is None
    assert read_progress(tmp_path / "none") is None
