"""How numbers are written for people: figures with their intervals, counts, bytes, ages.

Knows numbers. Knows nothing about what they measure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .statistics import Interval

NONE = "-"
"""What stands for a figure that is not known."""


def number(value: float | None) -> str:
    """Three decimals, or `-`."""
    return NONE if value is None else f"{value:.3f}"


def interval(ends: Interval | None) -> str:
    """Such as [0.902, 0.988], or `-`. No rich markup, which starts with a letter, "#", "/" or "@"."""
    return NONE if ends is None else f"[{ends[0]:.3f}, {ends[1]:.3f}]"


def estimate(value: float | None, ends: Interval | None = None) -> str:
    """A number with its interval, where there is one."""
    return number(value) if value is None or ends is None else f"{number(value)} {interval(ends)}"


def percent(share: float) -> str:
    """Such as 97.6 %."""
    return f"{100 * share:.1f} %"


def count(value: float) -> str:
    """Thousands apart: 809 417."""
    return f"{value:,.0f}".replace(",", " ")


def counted(number: int, what: str, several: str | None = None) -> str:
    """Such as 1 move, 2 moves; `several` is the plural, where it is not `what` and an s."""
    return f"{number} {what if number == 1 else several or what + 's'}"


def gigabytes(size: int) -> str:
    """Bytes, decimal, as disks and GPUs are sold: 3.4 GB; small ones as 12.5 MB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def age(seconds: float | None) -> str:
    """Such as 5 min, 3 h, 12 d."""
    if seconds is None:
        return NONE
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
