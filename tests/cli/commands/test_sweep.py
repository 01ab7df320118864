"""Hours of a plan, in words."""

from __future__ import annotations

import pytest

from msgrpo_cli.cli.commands.sweep import _hours


@pytest.mark.parametrize(
    ("hours", "told"),
    [(None, "?"), (0.0001, "under 0.1 min"), (0.1 / 60, "0.1 min"), (0.5, "30.0 min"), (1.0, "1.0 h"), (2.25, "2.2 h")],
)
def test_hours_in_words(hours: float | None, told: str) -> None:
    assert _hours(hours) == told
