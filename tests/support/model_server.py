"""A real server of a real model for tests: `transformers serve` in a process of its own, and a gate before it.

The gate passes requests on and does to some of them what servers do: refuse for now, want a key, break, take long.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_PATIENCE = 900.0  # seconds until a server answers that is just importing torch


def served(model: Path, log: Path) -> AbstractContextManager[str]:
    """Serve a checkpoint; yields the base URL."""
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", str(model)]
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return listening([*command, "--device", "cpu"], log, quiet, "/v1")


@contextmanager
def listening(command: list[str], log: Path, environment: dict[str, str], below: str = "") -> Iterator[str]:
    """Start a server on a free port; yields its address, with `below`, once it says that it is well."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=file, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}{below}"
    finally:
        process.terminate()
        process.wait(300)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30):
            return True
    except (urllib.error.URLError, OSError):
        return False


Reply = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""


@dataclass
class Gate:
    """Stands before a server. `before` may answer a request itself: given its number (from 1) and its headers."""

    target: str
    before: Callable[[int, Any], Reply | None] = lambda number, headers: None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """Of the requests that came, those that were refused among them."""
    at_once: int = 0
    """The most requests that were under way at the same time."""
    url: str = ""
    _under_way: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def open(self) -> Iterator[Gate]:
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, answer = gate.pass_on(self.path, self.headers, body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def pass_on(self, path: str, headers: Any, body: bytes) -> Reply:
        with self._lock:
            self.bodies.append(json.loads(body))
            number = len(self.bodies)
            self._under_way += 1
            self.at_once = max(self.at_once, self._under_way)
        try:
            return self.before(number, headers) or self._real(path, body)
        finally:
            with self._lock:
                self._under_way -= 1

    def _real(self, path: str, body: bytes) -> Reply:
        connection = http.client.HTTPConnection(self.target.split("/")[2], timeout=300)
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, {"Content-Type": "application/json"}, answer.read()


def refusal(status: int, said: str, **headers: str) -> Reply:
    text = json.dumps({"error": {"message": said}}).encode()
    return status, {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}, text
