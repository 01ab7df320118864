"""Text that models and games wrote, made safe to show: what a terminal would obey, or nobody would see, is spelled out.

Knows characters. Knows nothing about where the text is shown.
"""

from __future__ import annotations

_KEPT = frozenset("\n\t")


def visible(text: str) -> str:
    """The same text with every control, format, surrogate and odd blank character as its escape, such as `\\x1b`.

    Line breaks stay; tabs become blanks.
    """
    return "".join(char if char in _KEPT or char.isprintable() else _escape(char) for char in text).expandtabs(4)


def visible_line(text: str) -> str:
    """The same on one line: line breaks are spelled out, too."""
    return visible(text).replace("\n", "\\n")


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
