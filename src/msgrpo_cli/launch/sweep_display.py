"""How the jobs of a sweep stand, shown while they run: a table on a terminal, plain lines elsewhere.

Knows the records of jobs. Knows nothing about how jobs are run. A thread looks, for the main one waits for Hydra.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from msgrpo_cli.runs.sweep import JobState, JobStatus, Sweep

_EVERY = 1.0  # seconds between looks
_PLAIN_EVERY = 30  # looks between plain lines about running jobs
_STYLES = {"done": "green", "failed": "bold red", "lost": "bold red", "running": "bold", "interrupted": "yellow"}
_FIRST: tuple[JobStatus, ...] = (
    "running",
    "starting",
    "failed",
    "lost",
    "interrupted",
    "done",
    "pruned",
    "not started",
)
"""Which jobs are shown where there is no room for all."""
_ENDING = "ending: running jobs reach their next safe point and save, no other starts; once more to end at once"
_ROOM_FOR_NAMES = 80  # columns from which directories are named
_COLUMNS, _FIGURES_FROM = ("job", "status", "update", "reward", "time"), 2


class SweepDisplay:
    """A context manager; `on_look` is called at every look, in the thread."""

    def __init__(
        self, sweep: Sweep, on_look: Callable[[], None] = lambda: None, console: Console | None = None
    ) -> None:
        self._sweep, self._on_look = sweep, on_look
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="sweep", daemon=True)
        self._told: dict[str, str] = {}
        self._looks = 0
        self._said_ending = False
        self._expected = int(sweep.record().get("expected") or 0)

    def __enter__(self) -> Self:
        self._console.print(f"sweep {self._sweep.path}", highlight=False, markup=False, soft_wrap=True)
        if self._live:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        if self._live:
            self._live.stop()

    def _look_on(self) -> None:
        while not self._over.wait(_EVERY):
            with contextlib.suppress(OSError):  # of a file that is being replaced
                self._look()

    def _look(self) -> None:
        self._on_look()
        states = self._sweep.states()
        ending = _ENDING if self._sweep.stop_file.exists() else ""
        if self._live:
            shown = table(states, self._console.width, self._console.height - bool(ending))
            self._live.update(Group(shown, Text(ending)) if ending else shown, refresh=True)
        else:
            if ending and not self._said_ending:
                self._console.print(ending, soft_wrap=True)
            self._tell(states)
        self._said_ending = bool(ending)
        self._looks += 1

    def _tell(self, states: Sequence[JobState]) -> None:
        """A line where the status of a job has changed, and every half minute for those that run."""
        for number, (state, own) in enumerate(zip(states, _own(states), strict=True), 1):
            name, still = state.job.directory.name, state.status == "running" and self._looks % _PLAIN_EVERY == 0
            if self._looks == 0:  # how a sweep that goes on was left is no news
                self._told[name] = state.status
            elif state.status not in ("not started", "starting") and (self._told.get(name) != state.status or still):
                self._told[name] = state.status
                update, score, time = _figures(state)
                part = "test" if state.status == "done" else "validation"
                reward = f"{part} {score}" if score else ""
                words = [
                    f"job {number}/{max(len(states), self._expected)} {state.status}",
                    update,
                    reward,
                    time,
                    own,
                    state.error,
                ]
                self._console.print("  ".join(filter(None, words)), highlight=False, markup=False, soft_wrap=True)


def table(states: Sequence[JobState], width: int, height: int) -> RenderableType:
    """Every job with what is known of it; where they are more than `height` lines hold, the most telling ones.

    `width`: columns of the terminal.
    """
    room = max(3, height - 6)
    order = sorted(range(len(states)), key=lambda number: _FIRST.index(states[number].status))
    chosen = sorted(order[:room])
    own = _own(states)
    rows = [(states[n].job.directory.name[:6], states[n].status, *_figures(states[n])) for n in chosen]
    first = 0 if width >= _ROOM_FOR_NAMES else 1
    grid = Table(box=None, pad_edge=False)
    room_for_text = width
    for place, title in list(enumerate(_COLUMNS))[first:]:  # rich would narrow them in favour of long errors
        needed = max([len(title), *(len(row[place]) for row in rows)])
        grid.add_column(title, justify="right" if place >= _FIGURES_FROM else "left", no_wrap=True, min_width=needed)
        room_for_text -= needed + 1
    grid.add_column("overrides", no_wrap=True)
    for number, row in zip(chosen, rows, strict=True):
        told = Text("  ".join(filter(None, (own[number], states[number].error))))
        told.truncate(max(1, room_for_text), overflow="ellipsis")
        cells: list[str | Text] = [row[0], Text(row[1], style=_STYLES.get(row[1], "")), *row[2:]]
        grid.add_row(*cells[first:], told)
    counts = Counter(state.status for state in states)
    said = ", ".join(f"{counts[status]} {status}" for status in _FIRST if counts[status])
    hidden = f"; {len(states) - len(chosen)} are not shown" if len(chosen) < len(states) else ""
    return Group(grid, Text(f"{len(states)} jobs: {said}{hidden}"))


def _own(states: Sequence[JobState]) -> list[str]:
    """Of each job the overrides that not all share."""
    shared = set.intersection(*(set(state.job.overrides) for state in states)) if len(states) > 1 else set()
    return [" ".join(_short(text) for text in state.job.overrides if text not in shared) for state in states]


def _short(override: str) -> str:
    """`trainer.learning_rate=1e-3` as `learning_rate=1e-3`."""
    key, equals, value = override.partition("=")
    return f"{key.rpartition('.')[2]}{equals}{value}"


def _figures(state: JobState) -> tuple[str, str, str]:
    update = "" if state.update is None else f"{state.update}/{state.max_updates or '?'}"
    score = "" if state.score is None else f"{state.score:.3f}"
    seconds = "" if state.seconds is None else _time(state.seconds)
    return update, score, seconds


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
