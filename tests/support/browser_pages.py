"""A page in a real Chromium without a window, spoken to by the DevTools protocol over two pipes.

Opens one file, notes every request and everything that the console complains about, and presses real keys.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WITH_BROWSER = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip
_PATIENCE = 300.0
_KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9, "Enter": 13}


class Page:
    """One page; `errors` and `requests` grow while it is used."""

    def __init__(self, reads: int, writes: int) -> None:
        self._reads, self._writes, self._numbers = reads, writes, itertools.count(1)
        self._buffer, self._session = b"", ""
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._loaded = False

    def open(self, url: str, width: int = 1000, height: int = 800, *, scripts: bool = True) -> None:
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")
        self._ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._ask("Page.navigate", url=url)
        until = time.monotonic() + _PATIENCE
        while not self._loaded:
            assert time.monotonic() < until, "the page was not loaded"
            self._hear()

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives; an error in it is raised here."""
        said = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def wait_until(self, expression: str) -> None:
        """Wait for what an event brings about: it comes after the call that caused it."""
        until = time.monotonic() + _PATIENCE
        while self.value(expression) is not True:
            assert time.monotonic() < until, expression
            time.sleep(0.05)

    def violations(self) -> list[str]:
        """What axe-core finds, of every weight. Skips where it is not installed."""
        axe = pytest.importorskip("axe_core_python")
        self.value((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8") + "; true")
        found = json.loads(self.value("axe.run().then(found => JSON.stringify(found.violations))"))
        return [f"{broken['impact']}: {broken['id']}: {broken['nodes'][0]['html'][:200]}" for broken in found]

    def press(self, key: str) -> None:
        """A real key, wherever the focus is."""
        text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        code = _KEYS.get(key, ord(key.upper()) if len(key) == 1 else 0)
        for kind in ("keyDown", "keyUp"):
            extra = text if kind == "keyDown" else {}
            self._ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **extra)

    def picture(self) -> str:
        """A screenshot, PNG in base64."""
        return self._ask("Page.captureScreenshot", format="png")["data"]

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        text = json.dumps(message).encode() + b"\0"
        while text:
            text = text[os.write(self._writes, text) :]
        while True:
            said = self._hear()
            if said.get("id") == number:
                assert "error" not in said, f"{method}: {said['error']}"
                return said["result"]

    def _hear(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._reads], [], [], _PATIENCE)[0], "the browser does not answer"
            heard = os.read(self._reads, 1 << 16)
            assert heard, "the browser is gone"
            self._buffer += heard
        line, _, self._buffer = self._buffer.partition(b"\0")
        said = json.loads(line)
        self._note(said.get("method"), said.get("params", {}))
        return said

    def _note(self, method: str | None, said: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent" and not said["request"]["url"].startswith("data:"):
            self.requests.append(said["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(said["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(said["args"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.errors.append(said["entry"]["text"])


@contextmanager
def opened(path: Path, **how: Any) -> Iterator[Page]:
    """The page of a file; afterwards the browser and its profile are gone."""
    assert BROWSER is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        to_read, to_write = os.pipe(), os.pipe()  # as the browser sees them
        command = [BROWSER, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]

        def put_in_place() -> None:  # where the browser looks for them
            reads, writes = (fcntl.fcntl(handle, fcntl.F_DUPFD, 100) for handle in (to_read[0], to_write[1]))
            os.dup2(reads, 3)
            os.dup2(writes, 4)

        process = subprocess.Popen(
            command,
            close_fds=False,  # it would close them again
            preexec_fn=put_in_place,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_read[0])
        os.close(to_write[1])
        try:
            page = Page(to_write[0], to_read[1])
            page.open(path.absolute().as_uri(), **how)
            yield page
        finally:
            os.close(to_read[1])  # at the end of the pipe the browser leaves
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(to_write[0])
