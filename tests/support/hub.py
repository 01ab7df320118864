"""A hub on this machine's loopback, for tests: it answers as the real one does, for models named by what they do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from msgrpo_cli.runs.pretrained import ASSETS

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARD = "---\nlicense: other\nlicense_name: some-research\nlicense_link: LICENSE\n---\n# A base\n"
_REFUSALS = {
    "gated": (401, "GatedRepo", "Access to model gated/model is restricted. You must have access to it."),
    "private": (401, "RepoNotFound", "Invalid username or password."),
    "locked": (401, "", "Invalid credentials in Authorization header"),
    "broken": (500, "", "Internal Error"),
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""

    def _answer(self, *, with_body: bool) -> None:
        if "/resolve/" in self.path:  # huggingface_hub asks for more than files on its own account
            self.server.asked.append((self.path, self.headers.get("Authorization")))  # type: ignore[attr-defined]
        owner, _, rest = self.path.removeprefix("/").partition("/")
        if owner == "silent":
            self.server.ended.wait()  # type: ignore[attr-defined]
            self.close_connection = True
            return
        if owner in _REFUSALS:
            code, error, message = _REFUSALS[owner]
            self._send(code, {"X-Error-Code": error, "X-Error-Message": message})
            return
        content = _content(rest) if owner == "open" else None
        if content is None:
            self._send(404, {"X-Error-Code": "EntryNotFound"})
            return
        digest = hashlib.sha256(content).hexdigest()
        headers = {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT}
        self._send(200, headers, content, with_body=with_body)

    def _send(self, code: int, headers: dict[str, str], content: bytes = b"", *, with_body: bool = True) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)


def _content(path: str) -> bytes | None:
    """A file of open/tiny, which is the embedded base under another card."""
    model, _, place = path.partition("/resolve/")
    name = place.partition("/")[2]
    if model == "tiny" and name == "README.md":
        return CARD.encode()
    file = Path(ASSETS) / "tiny" / name
    return file.read_bytes() if model == "tiny" and name and file.is_file() else None


class Hub:
    """Its address, and which files it was asked for: pairs of path and Authorization header."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.address = f"http://127.0.0.1:{server.server_address[1]}"
        self.asked: list[tuple[str, str | None]] = server.asked  # type: ignore[attr-defined]


@contextmanager
def running_hub() -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.asked, server.ended = [], threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield Hub(server)
    finally:
        server.ended.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()
