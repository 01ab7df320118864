"""How numbers are written for people: figures with their intervals, counts, bytes, ages.

Knows numbers. Knows nothing about what they measure.
"""

from __future__ import annotations

from .statistics import Interval


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"


NONE = "-"


def number(value: float | None) -> str:
    """Three decimals, or `-`."""
    return NONE if value is None else f"{value:.3f}"


def interval(ends: Interval | None) -> str:
    """Such as [0.902, 0.988], or `-`."""
    return NONE if ends is None else f"[{ends[0]:.3f}, {ends[1]:.3f}]"


def estimate(value: float, ends: Interval | None) -> str:
    """A number with its interval, where there is one."""
    return number(value) if ends is None else f"{number(value)} {interval(ends)}"


def count(value: float) -> str:
    """Thousands apart: 809 417."""
    return f"{value:,.0f}".replace(",", " ")


def age(seconds: float | None) -> str:
    """Such as 5 min, 3 h, 12 d."""
    if seconds is None:
        return "-"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
