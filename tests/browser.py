"""A page in a real headless Chromium: what it asks for, what it complains about, and what axe-core says of it.

Knows the DevTools protocol. Knows nothing about what pages are for.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
HAVE_AXE = importlib.util.find_spec("axe_core_python") is not None
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or not HAVE_AXE, reason="needs Chromium (Debian's package chromium) and axe-core-python"
)
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-port=0",
)
_PATIENCE = 60.0  # seconds


class Page:
    """An open page; what happens to it is gathered while it is used."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.requests: list[str] = []
        """Every address that was asked for, the page's own among them."""
        self.complaints: list[str] = []
        """Errors and warnings of the console, exceptions that nobody caught."""

    def open(self, path: Path) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Network", "Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=path.absolute().as_uri())
        address = json.dumps(path.absolute().as_uri())
        self.wait_until(f"document.readyState === 'complete' && location.href === {address}")

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_until(self, script: str) -> None:
        """Wait for what an event brings about: it comes after the call that caused it."""
        until = time.monotonic() + _PATIENCE
        while self.run(script) is not True:
            assert time.monotonic() < until, script
            time.sleep(0.05)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, text="\r" if key == "Enter" else "")

    def picture(self, to: Path, width: int = 1000, height: int = 1400) -> None:
        import base64

        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        to.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]))

    def violations(self) -> list[str]:
        """What axe-core finds, of every weight."""
        import axe_core_python

        self.run((Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8") + "; true")
        found = self.run("axe.run().then(found => JSON.stringify(found.violations))")
        return [
            f"{broken['impact']}: {broken['id']}: {broken['nodes'][0]['html'][:200]}" for broken in json.loads(found)
        ]

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": arguments}
        if self._session is not None:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            said = json.loads(self._socket.recv(timeout=_PATIENCE))
            if said.get("id") == number:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result
            self._note(said.get("method"), said.get("params", {}))

    def _note(self, event: str | None, about: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(str(about["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(about["args"]))
        elif event == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.complaints.append(about["entry"]["text"])


@contextlib.contextmanager
def opened(path: Path, profile: Path) -> Iterator[Page]:
    """The page at `path` in a browser of its own, whose `profile` is a new folder."""
    from websockets.sync.client import connect

    assert CHROMIUM is not None
    process = subprocess.Popen(
        [CHROMIUM, *_FLAGS, f"--user-data-dir={profile}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        told, until = profile / "DevToolsActivePort", time.monotonic() + _PATIENCE
        while not told.exists() or len(told.read_text().split()) < 2:
            assert process.poll() is None and time.monotonic() < until, "Chromium does not start"
            time.sleep(0.05)
        port, place = told.read_text().split()
        with connect(f"ws://127.0.0.1:{port}{place}", max_size=None, proxy=None) as socket:
            page = Page(socket)
            page.open(path)
            yield page
    finally:
        process.terminate()
        process.wait(timeout=30)
