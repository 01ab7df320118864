"""Numbers as people read them."""

from __future__ import annotations

from msgrpo_cli.common.numbers import counted


def test_one_is_no_plural() -> None:
    assert [counted(number, "move") for number in (0, 1, 2)] == ["0 moves", "1 move", "2 moves"]
    assert [counted(number, "retry", "retries") for number in (1, 3)] == ["1 retry", "3 retries"]
