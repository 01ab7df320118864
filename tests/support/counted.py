"""What work costs, told without a clock: calls made, bytes read, modules imported. The same on a busy machine."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

_IO = Path("/proc/self/io")


@contextmanager
def counting_calls() -> Iterator[Counter[str]]:
    """How often each function of Python was called in the block, by its qualified name; those of C are left out."""
    found: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            found[frame.f_code.co_qualname] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield found
    finally:
        sys.setprofile(before)


@contextmanager
def counting_bytes() -> Iterator[list[int]]:
    """Holds one number after the block: bytes that this process read meanwhile; nothing where no system tells."""
    found: list[int] = []
    before = _bytes_read()
    yield found
    after = _bytes_read()
    if before is not None and after is not None:
        found.append(after - before)


@contextmanager
def not_hanging(seconds: int = 300) -> Iterator[None]:
    """Fail the test where the block would not end. For work that takes hours if it is not what it should be."""

    def give_up(*_: object) -> None:
        pytest.fail(f"it hangs: not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _bytes_read() -> int | None:
    if not _IO.exists():
        return None
    return int(_IO.read_text().split()[1])


STARTING = {
    *("typer", "rich", "shellingham", "annotated_doc", "psutil"),
    *("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"),
}
"""Packages that the command line may import before it knows what to do: together a fifth of a second."""

LIST_IMPORTED = """
import sys
_tops = {name.partition(".")[0] for name, module in sys.modules.items() if getattr(module, "__file__", None)}
_own = {"msgrpo_cli", *sys.stdlib_module_names}
print(*sorted(name for name in _tops - _own if not name.startswith("_")))
"""
"""Code for another process: prints the packages that it has imported, without Python's own and ours."""
