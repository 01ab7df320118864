"""A replay that a person steps through by keys.

Knows terminals, keys as they arrive, and clocks. Knows nothing about files or what is shown of an episode.
"""

from __future__ import annotations

import os
import re
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live

from msgrpo_cli.replay_position import Position
from msgrpo_cli.replay_screen import Screen
from msgrpo_cli.runs.episodes import Row

_LOOK = 0.2  # seconds after which the size of the terminal is looked at again
_KEY = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z])|.", re.DOTALL)


def replay_in_terminal(load: Callable[[int], tuple[int, Row]], count: int, name: str) -> None:
    """Show `count` episodes; `load(place)` gives the line number of one, and the episode.

    Raises KeyboardInterrupt where the person leaves by Ctrl-C.
    """
    at = Position(count, lambda place: len(load(place)[1]["steps"]))
    console = Console(highlight=False)
    with _keys_at_once(), Live(console=console, screen=True, auto_refresh=False) as live:
        drawn: Any = None
        due = time.monotonic() + at.seconds_a_step
        while not at.left:
            if (now := (repr(at), console.size)) != drawn:
                line, row = load(at.episode)
                live.update(Screen(row, line, at, name), refresh=True)
                drawn = now
            keys = pressed(min(_LOOK, max(0.0, due - time.monotonic())) if at.playing else _LOOK)
            for key in keys:
                at.press(key)
            if keys or not at.playing:
                due = time.monotonic() + at.seconds_a_step
            elif time.monotonic() >= due:
                at.tick()
                due = time.monotonic() + at.seconds_a_step


def keys_in(text: str) -> list[str]:
    """The keys in what arrived at once: those of a held key come together."""
    return _KEY.findall(text)


def pressed(seconds: float) -> list[str]:
    """The keys that are pressed within so many seconds; a closed terminal counts as Ctrl-D.

    Not by `typer.getchar`: it throws away what was typed before it was called, so it cannot be waited for.
    """
    handle = sys.stdin.fileno()
    if not select.select([handle], [], [], seconds)[0]:
        return []
    return keys_in(os.read(handle, 1024).decode(errors="replace")) or ["\x04"]


@contextmanager
def _keys_at_once() -> Iterator[None]:
    """Keys arrive as they are pressed, not with Enter, so that waiting for one can end."""
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    tty.setcbreak(handle)
    try:
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
