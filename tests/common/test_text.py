"""What models write cannot command a terminal, and what nobody would see is seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgrpo_cli.common.text import visible, visible_line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<action>up</action>", "<action>up</action>"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("two\nlines\r", "two\nlines\\r"),
        ("a\tb", "a   b"),
        ("\x9b31m", "\\x9b31m"),
        ("right\u202eleft", "right\\u202eleft"),
        ("\ud800", "\\ud800"),
        ("向上 é ✓", "向上 é ✓"),
        ("[red]no markup[/red]", "[red]no markup[/red]"),
    ],
)
def test_controls_are_spelled_out_and_the_rest_stays(text: str, expected: str) -> None:
    assert visible(text) == expected


@given(st.text())
def test_nothing_but_printable_characters_and_line_breaks_is_left(text: str) -> None:
    assert all(char == "\n" or char.isprintable() for char in visible(text))
    assert "\n" not in visible_line(text)
