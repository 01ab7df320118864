"""The doctor's look at the machine. The hub is a server of this test; no GPU is needed."""

from __future__ import annotations

import http.server
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.launch import doctor_machine
from support.counted import not_hanging

TINY = compose("train", [])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_devices_are_named() -> None:
    assert doctor_machine.devices(TINY).startswith("cpu with 1 threads (float32)")


def test_memory_of_a_model_that_fits_and_of_one_that_does_not() -> None:
    assert "training all of tiny needs 7.2 MB" in doctor_machine.memory(TINY)  # 0.444M parameters x 16 bytes
    with pytest.raises(RunError, match=r"qwen72b needs 1,163\.3 GB .* choose a smaller model, or lora\.enabled=true$"):
        doctor_machine.memory(compose("train", ["model=qwen72b"]))
    assert "not known" in doctor_machine.memory(compose("train", ["model=any", "model.path=./somewhere"]))


def test_an_adapter_needs_the_weights_once_and_its_own_numbers_four_times() -> None:
    qwen = ["model=qwen3b", "lora.enabled=true", "lora.r=32"]
    weights, own = 4 * 3_085_938_688, 59_867_136  # of qwen3b; rank 32 on all its linear layers, both by hand
    assert doctor_machine.memory_needed(compose("train", qwen)) == weights + 16 * own
    assert doctor_machine.memory_needed(compose("train", [*qwen, "model.dtype=bfloat16"])) == weights // 2 + 16 * own


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "max").write_text("9000000\n")
    (tmp_path / "current").write_text("4000000\n")
    monkeypatch.setattr("msgrpo_cli.common.memory._CONTAINER_LIMIT", tmp_path / "max")
    monkeypatch.setattr("msgrpo_cli.common.memory._CONTAINER_USED", tmp_path / "current")
    with pytest.raises(RunError, match=r"needs 7\.2 MB .* 5\.0 MB are free"):
        doctor_machine.memory(TINY)
    (tmp_path / "max").write_text("max\n")
    assert "free in memory" in doctor_machine.memory(TINY)


def test_disk(here: Path) -> None:
    assert f"free in {here}; a checkpoint of tiny takes 5.4 MB" in doctor_machine.disk(TINY)
    with pytest.raises(UsageError, match=r"^save\.keep_last=3: 5 checkpoints"):
        doctor_machine.disk(compose("train", ["model=qwen72b"]))


def test_write_access(here: Path) -> None:
    assert doctor_machine.write_access(TINY) == f"{here} can be written to"
    assert list(here.iterdir()) == []


def test_no_write_access(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc")  # where not even root makes a folder
    with pytest.raises(OSError, match=r"/proc"):
        doctor_machine.write_access(TINY)


class _Hub(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(401)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def ask_hub(endpoint: str, offline: str = "0") -> str:
    """In a process of its own: huggingface_hub reads its settings when it is imported."""
    code = (
        "from msgrpo_cli.launch import doctor_machine\nfrom msgrpo_cli.config.compose import compose\n"
        "print(doctor_machine.hub(compose('train', [])))"
    )
    settings = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": offline, "no_proxy": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=settings, timeout=600, check=True
    ).stdout.strip()


def test_a_hub_that_answers_and_one_that_is_not_asked(hub: str) -> None:
    assert ask_hub(hub) == f"{hub} answers"
    assert ask_hub(hub, offline="1").startswith("not asked: HF_HUB_OFFLINE is set")


def test_a_hub_that_refuses() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        assert ask_hub(address).startswith(f"offline: {address} cannot be reached (")


def test_a_hub_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        monkeypatch.setattr(doctor_machine, "_PATIENCE", 0.3)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with not_hanging():
            said = doctor_machine.hub(TINY)
    assert re.search(r"cannot be reached \((no answer within|.*timed out)", said), said


def test_a_hub_that_never_answers_is_waited_for_less_than_ten_seconds() -> None:
    assert doctor_machine._PATIENCE < 10
