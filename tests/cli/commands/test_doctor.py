"""The doctor as a command: what it checks, how it says so, how it ends. The training is in test_doctor_training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from msgrpo_cli.cli.app import main
from msgrpo_cli.common.checklist import Check, as_data, examine, show
from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import RunError
from msgrpo_cli.launch import doctor

NAMES = ["python", "packages", "extras", "devices", "memory", "disk", "write access", "hub", "tokenizer"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("msgrpo_cli.cli.app.heed_signals", lambda: None)
    return tmp_path


def msgrpo(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["msgrpo", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_here_all_is_well_and_json_is_one_value(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = msgrpo(monkeypatch, "doctor", "--quick", "--json")
    captured = capsys.readouterr()
    said: dict[str, Any] = json.loads(captured.out)
    assert (code, said["passed"]) == (0, True), said
    assert [check["name"] for check in said["checks"]] == NAMES
    assert all(set(check) == {"name", "passed", "detail"} and check["detail"] for check in said["checks"])
    assert captured.err.splitlines() == [f"checking {name}" for name in NAMES]
    assert list(folder.iterdir()) == []


def test_a_check_that_fails_leaves_the_others_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = msgrpo(monkeypatch, "doctor", "model=qwen3b", "--quick", "--json")
    said = json.loads(capsys.readouterr().out)
    failed = {check["name"]: check["detail"] for check in said["checks"] if not check["passed"]}
    assert (code, said["passed"]) == (1, False)
    assert "HF_HUB_OFFLINE is set" in failed["tokenizer"]
    assert [check["name"] for check in said["checks"]] == NAMES
    assert msgrpo(monkeypatch, "doctor", "model=qwen3b", "--quick", "-v") == 1
    captured = capsys.readouterr()
    assert "FAILED  tokenizer" in captured.out
    assert "Traceback" in captured.err


@pytest.mark.parametrize("arguments", [["env=frozenlak"], ["model"], ["env.p=3"]])
def test_bad_input_checks_nothing(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert msgrpo(monkeypatch, "doctor", *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1


def test_whatever_is_raised_is_a_result_with_the_phase_it_was_noted_with() -> None:
    def stumble(_: object) -> str:
        print("not a result")
        error = ZeroDivisionError("first line\nsecond line")
        error.add_note("phase rollout")
        raise error

    def refuse(_: object) -> str:
        raise RunError("too small")

    checks = examine(compose("train", []), {"a": stumble, "b": refuse, "c": lambda _: "fine"})
    assert checks == [
        Check("a", False, "phase rollout; first line"),
        Check("b", False, "too small"),
        Check("c", True, "fine"),
    ]
    assert as_data(checks)["passed"] is False
    assert list(doctor.WHOLE) == [*doctor.QUICK, "training", "several processes"]


def test_results_alone_are_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    def chatter(_: object) -> str:
        print("a library's greeting")
        return "fine"

    checks = examine(compose("train", []), {"a": chatter})
    assert capsys.readouterr().out == ""
    show(checks)
    assert capsys.readouterr().out.split() == ["ok", "a", "fine"]


def test_a_narrow_terminal_without_colour_shows_every_check() -> None:
    code = (
        "from msgrpo_cli.common.checklist import Check, show\n"
        f"show([Check(name, name != 'disk', 'word ' * 20) for name in {NAMES!r}])"
    )
    settings = {**os.environ, "COLUMNS": "30", "NO_COLOR": "1"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=settings, check=True)
    lines = found.stdout.splitlines()
    assert max(map(len, lines)) <= 30
    assert "\x1b" not in found.stdout
    assert sum(line.startswith("ok") for line in lines) == len(NAMES) - 1
    assert sum(line.startswith("FAILED  disk") for line in lines) == 1
    assert found.stdout.count("word") == 20 * len(NAMES)
