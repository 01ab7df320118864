"""Lines of progress: one that is replaced and goes on a terminal, lines that stay elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from msgrpo_cli.common import console


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.setattr(console, "PLAIN_EVERY", 0.0)
    return io.StringIO()


def on(monkeypatch: pytest.MonkeyPatch, out: io.StringIO, *, terminal: bool) -> None:
    monkeypatch.setattr(console, "stderr", lambda: Console(file=out, width=80, force_terminal=terminal, _environ={}))


def test_lines_stay_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch, said: io.StringIO) -> None:
    on(monkeypatch, said, terminal=False)
    count = console.tally("lake", "episodes, of")
    for finished in (5, 20, 50):
        count(finished, 50)
    assert said.getvalue() == "lake: 5 episodes, of 50\nlake: 20 episodes, of 50\n"


@pytest.mark.parametrize("left", [False, True])
def test_a_terminal_has_one_line_that_is_gone_at_the_end(
    monkeypatch: pytest.MonkeyPatch, said: io.StringIO, left: bool
) -> None:
    on(monkeypatch, said, terminal=True)
    count = console.tally("lake", "episodes, of")
    count(5, 50)
    count(20, 50)
    if left:
        console.end_progress()
    else:
        count(50, 50)
    assert said.getvalue() == "lake: 5 episodes, of 50\r\x1b[2Klake: 20 episodes, of 50\r\x1b[2K"
    console.end_progress()
    assert said.getvalue().endswith("of 50\r\x1b[2K"), "once is enough"
