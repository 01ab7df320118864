"""Curves in a terminal: dots of braille for a line, marks for single points, and an axis.

Knows numbers, characters and rich's Text. Knows nothing about what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

_BRAILLE = 0x2800
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # by column and row within a cell of 2 x 4


@dataclass(frozen=True)
class Series:
    """Points (x, y), in the order of x."""

    points: Sequence[tuple[float, float]]
    style: str
    mark: str | None = None
    """A character for each point; None joins them by a line of dots."""


def curve(series: Sequence[Series], width: int, height: int, x_range: tuple[float, float], ascii_only: bool) -> Text:
    """`height` lines of `width` columns and one below: labels at the edges, the curves within. Later series lie above.

    Empty where there is no point at all.
    """
    values = [y for one in series for _, y in one.points]
    if not values:
        return Text()
    low, high = min(values), max(values)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    labels = (f"{high:.3g}", f"{low:.3g}")
    margin = max(map(len, labels)) + 1
    columns = max(4, width - margin - 1)
    cells: list[list[tuple[str | int, str]]] = [[(" ", "")] * columns for _ in range(height)]
    for one in series:
        if one.mark is None:
            _join(cells, _placed(one.points, 2 * columns, 4 * height, x_range, (low, high)), one.style)
        else:
            for x, y in _placed(one.points, columns, height, x_range, (low, high)):
                cells[y][x] = (one.mark, one.style)
    text = Text(no_wrap=True)
    for number, line in enumerate(cells):
        label = labels[0] if number == 0 else labels[1] if number == height - 1 else ""
        text.append(f"{label:>{margin - 1}} ", "dim")
        text.append("|" if ascii_only else "│", "dim")
        for content, style in line:
            dots = ("." if ascii_only else chr(_BRAILLE + content)) if isinstance(content, int) else content
            text.append(dots, style)
        text.append("\n")
    left, right = f"{x_range[0]:g}", f"{x_range[1]:g}"
    text.append(f"{'':{margin + 1}}{left}{right:>{columns - len(left)}}", "dim")
    return text


def _placed(
    points: Sequence[tuple[float, float]],
    columns: int,
    rows: int,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
) -> list[tuple[int, int]]:
    """Column and row of each point, rows from the top."""
    (left, right), (low, high) = x_range, y_range
    across, up = max(right - left, 1e-9), max(high - low, 1e-9)
    found = []
    for x, y in points:
        column = round((x - left) / across * (columns - 1))
        row = round((high - y) / up * (rows - 1))
        found.append((max(0, min(columns - 1, column)), max(0, min(rows - 1, row))))
    return found


def _join(cells: list[list[tuple[str | int, str]]], dots: Sequence[tuple[int, int]], style: str) -> None:
    """Set the dots, and those on straight lines between them."""
    for before, after in zip([dots[0], *dots] if dots else [], dots, strict=False):
        steps = max(abs(after[0] - before[0]), abs(after[1] - before[1]), 1)
        for step in range(steps + 1):
            x = round(before[0] + (after[0] - before[0]) * step / steps)
            y = round(before[1] + (after[1] - before[1]) * step / steps)
            content, _ = cells[y // 4][x // 2]
            known = content if isinstance(content, int) else 0
            cells[y // 4][x // 2] = (known | _DOTS[x % 2][y % 4], style)
