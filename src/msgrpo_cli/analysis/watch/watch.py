"""Following a run until it ends: a screen that renews itself on a terminal, plain lines elsewhere.

Knows clocks and where output goes. Knows nothing about how the state of a run is found or drawn.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from msgrpo_cli.common.text import visible_line
from msgrpo_cli.errors import INTERRUPTED
from msgrpo_cli.runs.directory import Run

from .screen import Screen, news
from .state import WatchedRun

_EVERY = 1.0  # seconds between two looks
_PLAIN_EVERY = 5.0  # seconds between plain lines of updates
_SILENT = 60.0  # seconds without a sign after which it is told


def show_once(path: Path) -> None:
    """Print where the run stands."""
    _print_last(_looked(path), Console(highlight=False))


def as_data(path: Path) -> dict[str, Any]:
    """Where the run stands; what `watch --json` prints."""
    watched = _looked(path)
    evaluations = [row for row in watched.metrics.rows if row.get("kind") == "eval"]
    return {
        "run": str(path),
        "status": watched.status,
        "error": watched.record.get("error"),
        "process": asdict(watched.process) if watched.process else None,
        "died": watched.died,
        "resume": watched.resume,
        "update": watched.updates,
        "max_updates": watched.max_updates or None,
        "phase": asdict(watched.progress) if watched.progress else None,
        "seconds_in_phase": watched.seconds_in_phase(),
        "seconds_left": watched.seconds_left(),
        "seconds": {name: asdict(one) for name, one in watched.seconds().items()},
        "last_update": next(reversed(watched.train_rows), None),
        "last_evaluation": next(reversed(evaluations), None),
    }


def follow(path: Path) -> None:
    """Show the run until it ends. Raises RunError where its directory is removed meanwhile.

    Whoever leaves by Ctrl-C ends the process with that signal's exit code; the run goes on.
    """
    console = Console(highlight=False)
    live = sys.stdout.isatty() and console.is_terminal and not console.is_dumb_terminal
    watched = _looked(path)
    try:
        if not live:
            _follow_plainly(watched, console)
        elif not watched.ended:
            with Live(_screen(watched), console=console, screen=True, auto_refresh=False) as screen:
                while not watched.ended:
                    time.sleep(_EVERY)
                    watched.look()
                    screen.update(_screen(watched), refresh=True)
    except KeyboardInterrupt as left:
        print(f"left; {path} goes on", file=sys.stderr)
        sys.exit(getattr(left, "exit_code", INTERRUPTED))
    if live:
        _print_last(watched, console)


def _print_last(watched: WatchedRun, console: Console) -> None:
    """The screen, and how the run goes on: in one line however narrow the terminal is, to be copied."""
    console.print(_screen(watched))
    if watched.resume is not None:
        console.print(f"go on with: {visible_line(watched.resume)}", markup=False, soft_wrap=True)


def _follow_plainly(watched: WatchedRun, console: Console) -> None:
    """One frame, then a line for every evaluation and now and then for an update, then the last frame."""
    if watched.ended:
        _print_last(watched, console)
        return
    console.print(_screen(watched))
    told, last_line = len(watched.metrics.rows), time.monotonic()
    while not watched.ended:
        time.sleep(_EVERY)
        watched.look()
        rows = watched.metrics.rows
        told = min(told, len(rows))  # a run that is resumed drops rows
        for place in range(told, len(rows)):
            latest = place == len(rows) - 1 and time.monotonic() - last_line >= _PLAIN_EVERY
            if rows[place].get("kind") == "eval" or latest:
                last_line = time.monotonic()
                print(news(rows[place], watched.max_updates), flush=True)
        told = len(rows)
    _print_last(watched, console)


def _looked(path: Path) -> WatchedRun:
    watched = WatchedRun(Run(path))
    watched.look()
    return watched


def _screen(watched: WatchedRun) -> Screen:
    silent = None if watched.last_sign is None else time.time() - watched.last_sign
    told = silent is not None and (watched.died or (not watched.ended and silent >= _SILENT))
    return Screen(watched, silent if told else None)
