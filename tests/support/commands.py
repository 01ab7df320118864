"""A command as a user types it, in this process."""

from __future__ import annotations

import signal
import sys

import pytest

from msgrpo_cli.cli.app import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run it with `sys.argv` as given; returns its exit code. The handlers that it set are taken back."""
    monkeypatch.setattr(sys, "argv", ["msgrpo", *arguments])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(SystemExit) as caught:
            main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return int(caught.value.code or 0)
