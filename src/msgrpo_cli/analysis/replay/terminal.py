"""A replay that a person steps through by keys: each step a screen, beside it what would have been optimal.

Knows terminals, keys as they arrive, rich and rows of episodes.jsonl. Knows nothing about files.
"""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from msgrpo_cli.common.numbers import number
from msgrpo_cli.common.text import visible
from msgrpo_cli.errors import UsageError
from msgrpo_cli.runs.episodes import Row

from .position import Position
from .steps import origin, outcome, totals, verdict, word

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
    """Keys arrive as they are pressed, not with Enter, so that waiting for one can end.

    Raises UsageError where there are no such terminals, as on Windows.
    """
    try:
        import termios
        import tty
    except ImportError:
        raise UsageError("msgrpo replay: no keys here; use --text, --json or --html") from None
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    tty.setcbreak(handle)
    try:
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


_SIDE_BY_SIDE = 96  # columns from which the two texts stand beside each other
_LEAST = 3  # lines of the texts that are shown however small the terminal is
_COLOURS = {"optimal": "green", "worse": "yellow", "invalid": "bold red", "unknown": "dim"}
_KEYS = "←→ step  ↑↓ episode  g e jump  space play  +- pace  jk scroll  q quit"


@dataclass(frozen=True)
class Screen:
    """Draws itself into whatever room there is; the texts are cut to a window that scrolls."""

    row: Row
    line: int
    """Number of the episode in its file."""
    at: Position
    name: str
    """Of what is replayed."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or options.max_height
        free = options.update(height=None)
        head = console.render_lines(self._head(), free)
        foot = console.render_lines(self._strip(options.max_width), free)
        body = console.render_lines(self._texts(options.max_width), free)
        room = max(_LEAST, height - len(head) - len(foot) - 1)
        first = min(self.at.scroll, max(0, len(body) - room))
        hidden = "" if len(body) <= room else f"lines {first + 1} to {first + room} of {len(body)}  "
        last = console.render_lines(self._bottom(hidden, options.max_width), free)[:1]
        for line in (*head, *body[first : first + room], *foot, *last):
            yield from line
            yield Segment.line()

    @property
    def step(self) -> int:
        return min(self.at.step, len(self.row["steps"]) - 1)

    def _head(self) -> RenderableType:
        row, step = self.row, self.row["steps"][self.step]
        found = verdict(step)
        heading = Text(overflow="ellipsis", no_wrap=True)
        heading.append(f"episode {self.at.episode + 1}/{self.at.episodes}", "bold")
        heading.append(f"  step {self.step + 1}/{len(row['steps'])}", "bold")
        heading.append("  playing" if self.at.playing else "", "bold cyan")
        heading.append(f"  {self.name}, line {self.line}", "dim")
        facts = Table.grid(padding=(0, 2))
        titles = ("action", "optimal", "regret", "reward", "total")
        values = (
            word(step["action"]),
            word(step["optimal_action"]),
            number(step["regret"]),
            number(step["reward"]),
            number(totals(row)[self.step]),
        )
        for _ in titles:
            facts.add_column(overflow="fold")
        facts.add_row(*(Text(title, "dim") for title in titles))
        facts.add_row(*(Text(value, "bold") for value in values))
        judged = Text(f"{found.symbol} {found.words}", _COLOURS[found.name])
        return Group(heading, Text(origin(row)), Text(", ".join(outcome(row))), facts, judged)

    def _texts(self, width: int) -> RenderableType:
        step = self.row["steps"][self.step]
        panels = [
            Panel(Text(visible(step[name]), overflow="fold"), title=name, title_align="left", padding=(0, 1))
            for name in ("observation", "completion")
        ]
        if width < _SIDE_BY_SIDE:
            return Group(*panels)
        both = Table.grid(expand=True)
        both.add_column(ratio=1)
        both.add_column(ratio=1)
        both.add_row(*panels)
        return both

    def _strip(self, width: int) -> Text:
        """Every step's verdict on one line, as many around the present one as there is room for."""
        found = [verdict(step) for step in self.row["steps"]]
        cell = len(str(len(found))) + 3
        room = max(1, (width - 4) // cell)
        first = max(0, min(self.step - room // 2, len(found) - room))
        text = Text("… " if first else "  ", no_wrap=True)
        for place in range(first, min(first + room, len(found))):
            style = f"{_COLOURS[found[place].name]}{' reverse' if place == self.step else ''}"
            text.append(f"{place + 1:>{cell - 3}}{found[place].symbol}", style)
            text.append("  ")
        text.append("…" if first + room < len(found) else "")
        return text

    def _bottom(self, hidden: str, width: int) -> Text:
        if self.at.typed is not None:
            return Text(f"{self.at.jump_to}: {self.at.typed}_   Enter goes there, Esc does not", no_wrap=True)
        keys = _KEYS if len(hidden) + len(_KEYS) <= width else "←→↑↓ g e space +- jk q"
        return Text(hidden + keys, "dim", no_wrap=True, overflow="ellipsis")
