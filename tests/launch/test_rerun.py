"""Runs repeated from their own directories."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from msgrpo_cli.launch.rerun import as_text, first_difference
from msgrpo_cli.runs.directory import Run
from support.commands import run
from support.small_run import SMALL


@pytest.mark.slow
def test_a_run_comes_out_the_same_and_a_changed_one_does_not(finished_run: Path, tmp_path: Path) -> None:
    """In another process, where hashes of texts are others."""
    original = shutil.copytree(finished_run, tmp_path / "original")
    command = [sys.executable, "-m", "msgrpo_cli", "rerun", str(original), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["equal"] and outcome["difference"] is None
    again = Path(outcome["rerun"])
    assert again.parent == original.parent and again.name.startswith("original-again-")
    record = json.loads((again / "run.json").read_text())
    assert record["overrides"] == SMALL and record["command"][1] == "rerun"
    assert (again / "config.yaml").read_text() == (original / "config.yaml").read_text()
    rows = (again / "metrics.jsonl").read_text().splitlines()
    rows[1] = json.dumps({**json.loads(rows[1]), "loss": 77.0})
    (again / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    found = first_difference(Run(original), Run(again))
    assert found is not None and (found["file"], found["line"], found["key"], found["is"]) == (
        "metrics.jsonl",
        2,
        "loss",
        77.0,
    )
    text = as_text({**outcome, "difference": found, "circumstances": ["threads: 2, was 1 before"]})
    assert "different: metrics.jsonl, line 2: loss was " in text and "is 77.0" in text and "threads: 2" in text
    (again / "metrics.jsonl").write_text("\n".join(rows[:1]) + "\n")
    found = first_difference(Run(original), Run(again))
    assert found is not None and (found["line"], found["is"]) == (2, None)


def test_what_is_not_done_is_refused(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished_run, tmp_path / "copy")
    Run(tmp_path / "copy").update_record(status="interrupted")
    code, said = run(monkeypatch, "rerun", str(tmp_path / "copy")), capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert "interrupted; only a run that is done can be compared" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
