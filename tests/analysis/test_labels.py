"""Labels that lie on nothing: places by hand, and the pictures that they are used in."""

from __future__ import annotations

import pytest

from msgrpo_cli.analysis.labels import apart


@pytest.mark.parametrize(
    ("wanted", "taken", "expected"),
    [
        ([10.0, 50.0], [], [10.0, 50.0]),  # far enough already
        ([10.0, 12.0], [], [10.0, 18.0]),
        ([12.0, 10.0], [], [18.0, 10.0]),  # the order is theirs
        ([10.0, 10.0, 10.0], [], [10.0, 18.0, 2.0]),
        ([10.0], [9.0], [17.0]),  # off a line, to its nearer side
        ([10.0], [11.0], [3.0]),
        ([10.0], [9.0, 17.0], [1.0]),  # that side is taken, too
    ],
)
def test_places(wanted: list[float], taken: list[float], expected: list[float]) -> None:
    assert apart(wanted, 8.0, taken) == expected
