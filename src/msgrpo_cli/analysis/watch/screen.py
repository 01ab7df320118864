"""A watched run as a screen of any size: where it stands, curves, seconds of each phase, last episodes.

Knows rich. Knows nothing about files.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from msgrpo_cli.common.jsonl import Row
from msgrpo_cli.common.numbers import number
from msgrpo_cli.common.text import visible_line
from msgrpo_cli.runs.metrics import evaluation_rows

from ..replay.selection import total_regret
from ..replay.steps import word
from .plot import Series, curve
from .state import WatchedRun, points

_SIDE_BY_SIDE = 100  # columns from which both curves stand beside each other
_LOWEST, _HIGHEST = 4, 12  # lines of a curve
_FEW = 4  # episodes that are shown where there is little room
_STYLES = {"running": "cyan", "done": "green", "failed": "bold red", "interrupted": "yellow", "died": "bold red"}


@dataclass(frozen=True)
class Screen:
    """Draws itself into whatever room there is."""

    watched: WatchedRun
    seconds_silent: float | None = None
    """Since the run last wrote; None where it does not matter."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or (options.max_height if console.is_terminal else 40)
        width = options.max_width
        head, seconds = self._head(width), self._seconds()
        room = height - len(console.render_lines(Group(head, seconds), options.update(height=None))) - 1
        titles, beside = 3, width >= _SIDE_BY_SIDE  # of curves with their axes, and of the episodes
        episodes = _FEW if room < 2 * _HIGHEST + _FEW else len(self.watched.episodes)
        each = room - episodes - titles if beside else (room - episodes - 2 * titles) // 2
        both = each >= _LOWEST and self._differ()
        tall = max(_LOWEST, min(_HIGHEST, each if both else room - episodes - titles))
        yield head
        yield from self._curves(width, tall, both, beside, options.ascii_only)
        yield seconds
        yield from self._episodes(episodes)

    def _head(self, width: int) -> RenderableType:
        watched = self.watched
        status = "died" if watched.died else watched.status
        first = _line(
            (visible_line(watched.run.path.absolute().name), "bold"), (f"  {visible_line(watched.title)}", "")
        )
        state = [(status, _STYLES.get(status, "")), *((text, "") for text in self._process())]
        if watched.record.get("stopped"):
            state.append((f", stopped: {visible_line(str(watched.record['stopped']))}", ""))
        lines: list[RenderableType] = [first, Text.assemble(*state, overflow="fold"), self._bar(width)]
        if (phase := watched.progress) is not None and not watched.died:
            done = f" {phase.finished}/{phase.total}" if phase.total else ""
            lines.append(
                _line((f"phase {word(phase.phase)}{done}", ""), (f" for {_span(watched.seconds_in_phase())}", ""))
            )
        elif phase is not None:
            done = f" at {phase.finished} of {phase.total}" if phase.total else ""
            lines.append(_line((f"it was in {word(phase.phase)}{done}", "")))
        if watched.record.get("error"):
            lines.append(Text(visible_line(str(watched.record["error"])), "red", overflow="fold"))
        return Group(*lines)

    def _process(self) -> list[str]:
        process, silent = self.watched.process, self.seconds_silent
        found = []
        if process is not None:
            gone = " is gone" if self.watched.died else ""
            found.append(f", process {process.pid} on {visible_line(process.host)}{gone}")
        if silent is not None:
            found.append(f", silent for {_span(silent)}")
        return found

    def _bar(self, width: int) -> RenderableType:
        watched = self.watched
        left = watched.seconds_left()
        count = f"update {watched.updates}/{watched.max_updates or '?'}"
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            Text(count),
            ProgressBar(watched.max_updates or 1, watched.updates, width=max(8, min(40, width - len(count) - 24))),
            Text("" if left is None else f"about {_span(left)} left"),
        )
        return grid

    def _curves(self, width: int, height: int, both: bool, beside: bool, ascii_only: bool) -> list[RenderableType]:
        train, evaluations = self.watched.train_rows, evaluation_rows(self.watched.metrics.rows)
        columns = (width - 3) // 2 if beside and both else width
        found: list[RenderableType] = []
        for name, trained, evaluated in _CURVES:
            title = name if self._differ() else "total reward and success"
            line, marks = points(train, trained), points(evaluations, evaluated)
            if not line and not marks:
                continue
            last = max(x for x, _ in (*line, *marks))
            drawn = curve(
                [Series(line, "cyan"), Series(marks, "bold yellow", "o")],
                columns,
                height,
                (0.0, max(last, 1.0)),
                ascii_only,
            )
            latest = [f"training {line[-1][1]:.3f}"] if line else []
            latest += [f"o {word(evaluations[-1].get('split'))} {marks[-1][1]:.3f}"] if marks else []
            heading = Text(f"{title}: {', '.join(latest)}", no_wrap=True, overflow="ellipsis")
            found.append(Group(heading, drawn))
        if not found:
            return [Text("no update is finished yet", "dim")]
        if not both:
            return found[-1:]  # success says more, where it is known
        if not beside or len(found) == 1:
            return found
        grid = Table.grid(padding=(0, 3, 0, 0))
        grid.add_row(*found)
        return [grid]

    def _differ(self) -> bool:
        """Whether reward and success are two curves: in many games a win is the only reward."""
        train, evaluations = self.watched.train_rows, evaluation_rows(self.watched.metrics.rows)
        drawn = [(points(train, trained), points(evaluations, evaluated)) for _, trained, evaluated in _CURVES]
        return drawn[0] != drawn[1]

    def _seconds(self) -> RenderableType:
        found = self.watched.seconds()
        if not found:
            return Text()
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("seconds")
        for title in ("last", "median", "sum", "share"):
            table.add_column(title, justify="right")
        whole = sum(one.total for one in found.values()) or 1.0
        for name, one in found.items():
            table.add_row(
                name, f"{one.last:.2f}", f"{one.median:.2f}", f"{one.total:.1f}", f"{100 * one.total / whole:.0f} %"
            )
        return table

    def _episodes(self, count: int) -> list[RenderableType]:
        rows = self.watched.episodes[-count:] if count else []
        return [Text("last episodes", "dim"), *(_episode(row) for row in rows)] if rows else []


_CURVES = (
    ("total reward", "total_reward", "mean_total_reward"),
    ("success", "success_rate", "success_rate"),
)


def news(row: Row, max_updates: int) -> str:
    """A row of metrics.jsonl on one line."""
    update = row.get("update")
    if row.get("kind") == "eval":
        names = {"reward": "mean_total_reward", "success": "success_rate", "greedy success": "greedy_success_rate"}
        return f"after update {update}, {word(row.get('split'))}: {_figures(row, names)}"
    names = {"reward": "total_reward", "success": "success_rate", "entropy": "entropy"}
    skipped = ", skipped" if row.get("skipped") else ""
    return f"update {update}/{max_updates or '?'}: {_figures(row, names)}{skipped}"


def _figures(row: Row, names: dict[str, str]) -> str:
    known = {name: row.get(key) for name, key in names.items()}
    return ", ".join(f"{name} {value:.3f}" for name, value in known.items() if isinstance(value, (int, float)))


def _episode(row: Row) -> Text:
    try:
        won = {True: ("✓", "green"), False: ("×", "red")}.get(row["success"], ("·", ""))
        actions = " ".join(word(step["action"]) for step in row["steps"])
        text = (
            f" update {row['update']}, group {row['group']}.{row['member']}  {word(row['ended_by'])}  reward "
            f"{number(row['total_reward'])}  regret {number(total_regret(row))}  {len(row['steps'])} steps: {actions}"
        )
    except (KeyError, TypeError, ValueError):
        return _line(("? not an episode", "dim"))
    return _line(won, (text, ""))


def _line(*parts: tuple[str, str]) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    for part, style in parts:
        text.append(part, style)
    return text


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.0f} s" if seconds < 100 else str(timedelta(seconds=round(seconds)))
