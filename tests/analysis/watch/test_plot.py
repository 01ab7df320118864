"""Curves of dots: typed-in pictures."""

from __future__ import annotations

import pytest

from msgrpo_cli.analysis.watch.plot import Series, curve


def drawn(
    *series: Series, width: int = 10, height: int = 2, x: tuple[float, float] = (0, 10), plain: bool = False
) -> str:
    return curve(series, width, height, x, plain).plain


def test_a_straight_line_rises_from_corner_to_corner() -> None:
    assert drawn(Series([(0, 0.0), (10, 1.0)], "")).split("\n") == ["1 │   ⢀⡠⠔⠊", "0 │⡠⠔⠊⠁   ", "   0    10"]


def test_marks_stand_where_they_belong_and_above_the_line() -> None:
    lines = drawn(Series([(0, 0.0), (10, 0.0)], ""), Series([(0, 0.0), (10, 1.0)], "", "o")).split("\n")
    assert lines[0] == "1 │      o" and lines[1].startswith("0 │o") and lines[2] == "   0    10"


def test_a_constant_lies_in_the_middle() -> None:
    lines = drawn(Series([(0, 2.0), (10, 2.0)], "", "o"), height=3).split("\n")
    assert [line.count("o") for line in lines] == [0, 2, 0, 0]
    assert lines[0].startswith("2.5 │") and lines[2].startswith("1.5 │")


def test_nothing_to_draw() -> None:
    assert drawn(Series([], ""), Series([], "", "o")) == ""


@pytest.mark.parametrize(("width", "height"), [(1, 1), (8, 1), (200, 30)])
def test_any_size(width: int, height: int) -> None:
    lines = drawn(Series([(n, n % 7) for n in range(500)], ""), width=width, height=height, x=(0, 500)).split("\n")
    assert len(lines) == height + 1
    assert max(map(len, lines)) <= max(width, 11)


def test_a_terminal_that_knows_ascii_alone() -> None:
    assert drawn(Series([(0, 0.0), (10, 1.0)], ""), plain=True).isascii()
