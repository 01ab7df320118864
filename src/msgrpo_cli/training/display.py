"""What a person sees while a run works: a live line on a terminal, plain lines elsewhere; always on stderr.

Knows rich and numbers, and that a run which was asked to end leaves where a phase is told. Knows nothing about models,
games or files.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from msgrpo_cli.common.console import PLAIN_EVERY, stderr
from msgrpo_cli.common.numbers import percent
from msgrpo_cli.common.signals import safe_point

_log = logging.getLogger(__name__)  # Hydra writes it to the run's log.txt
_MOSTLY_VALID = 0.99  # below, the share of valid actions is shown
_WIDE = 110  # columns from which there is room for a bar
_ROOM_FOR_TIME = 80  # columns from which the time left is shown


class OnPhase(Protocol):
    """Told the name of a phase and how much of it is finished."""

    def __call__(self, name: str, finished: int, total: int, *, safe: bool) -> None: ...


class Display:
    """Shows updates, the present phase and evaluations. A context manager, so that the cursor always comes back."""

    def __init__(
        self,
        total_updates: int,
        console: Console | None = None,
        on_phase: Callable[[str, int, int], None] = lambda name, finished, total: None,
    ) -> None:
        self.console = console or stderr()
        self._on_phase = on_phase
        self._total = total_updates
        self._live = self.console.is_terminal and not self.console.is_dumb_terminal
        self._last_line = 0.0
        bar = [BarColumn(bar_width=24)] if self.console.width >= _WIDE else []
        left = [TimeRemainingColumn(compact=True), TextColumn("left")] if self.console.width >= _ROOM_FOR_TIME else []
        taken = len(f"update {total_updates}/{total_updates} ") + (25 if bar else 0) + (15 if left else 0)
        self._room = max(0, self.console.width - taken)  # rich would cut the numbers before the news
        self._bar = Progress(
            TextColumn("{task.description}"),
            *bar,
            MofNCompleteColumn(),
            *left,
            TextColumn("{task.fields[news]}"),
            console=self.console,
            transient=False,
            disable=not self._live,
        )
        self._task = self._bar.add_task("update", total=total_updates, news="")
        self._news = ""

    def __enter__(self) -> Self:
        if self._live:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell()
        if self._live:  # else old releases of rich print an empty line
            self._bar.stop()

    def _tell(self, phase: str = "") -> None:
        """What stands behind the count: the phase, then as much of the last update as there is room for."""
        news = f"{phase}  {self._news}" if phase else self._news
        self._bar.update(self._task, news=news[: self._room])

    def phase(self, name: str, finished: int = 0, total: int = 0, *, safe: bool = True) -> None:
        """What the program is doing now, such as `rollout` with 32 of 128 episodes finished.

        Where it is `safe` to leave, a run that was asked to end does so here: raises Interrupted. Whoever works says
        what is safe; the trainer: until the first optimizer step of an update.
        """
        if safe:
            safe_point()
        self._on_phase(name, finished, total)
        part = f" {finished}/{total}" if total else ""
        self._tell(f"{name}{part}")

    def begins_after(self, update: int) -> None:
        """A run goes on after this update."""
        self._bar.update(self._task, completed=update)

    def update(self, metrics: dict[str, Any]) -> None:
        """An update is finished."""
        self._news = _news(metrics)
        self._bar.update(self._task, completed=metrics["update"])
        self._tell()
        last = metrics["update"] == self._total
        if not self._live and (last or time.monotonic() - self._last_line >= PLAIN_EVERY):
            self._last_line = time.monotonic()
            self.say(f"update {metrics['update']}/{self._total}  {self._news}")

    def evaluated(self, update: int, split: str, row: dict[str, Any], of: str = "") -> None:
        """An evaluation is finished; `of` are other weights than those of the run's last update."""
        part = f"{'all starts' if split == 'any' else split}{of and ', '}{of}"
        success = "" if row["success_rate"] is None else f", success {percent(row['success_rate'])}"
        greedy = row["greedy_success_rate"]
        decoded = "" if greedy is None else f", greedy {percent(greedy)}"
        self.say(f"after update {update}, {part}: reward {row['mean_total_reward']:.3f}{success}{decoded}")

    def show(self, what: RenderableType) -> None:
        """A table that stays."""
        self.console.print(what)

    def say(self, text: str) -> None:
        """One line that stays."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
        _log.info(text)


def _news(metrics: dict[str, Any]) -> str:
    parts = [f"reward {metrics['total_reward']:.3f}"]
    if metrics["success_rate"] is not None:
        parts.append(f"success {percent(metrics['success_rate'])}")
    if metrics["valid_action_rate"] < _MOSTLY_VALID:
        parts.append(f"valid {percent(metrics['valid_action_rate'])}")
    if metrics.get("illegal_action_rate"):
        parts.append(f"illegal {percent(metrics['illegal_action_rate'])}")
    parts.append("skipped" if metrics["skipped"] else f"entropy {metrics['entropy']:.3f}")
    if metrics.get("withheld_steps"):
        parts.append(f"withheld {metrics['withheld_steps']}")
    return "  ".join(parts)
