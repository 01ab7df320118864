"""Keys of a replay: where each leads, also at the ends."""

from __future__ import annotations

import pytest

from msgrpo_cli.analysis.replay.position import Position
from msgrpo_cli.analysis.replay.terminal import keys_in

LENGTHS = (3, 1, 4)


def after(*keys: str, **start: int) -> tuple[int, int]:
    at = Position(len(LENGTHS), LENGTHS.__getitem__, **start)
    for key in keys:
        at.press(key)
    return at.episode, at.step


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        (["\x1b[C"], (0, 1)),
        (["n", "l", "\r"], (1, 0)),
        (["\x1bOC", "n", "n", "n", "p"], (1, 0)),
        (["p"], (0, 0)),
        (["\x1b[B", "\x1b[B", "\x1b[F", "n", "n"], (2, 3)),
        (["\x1b[B", "\x1b[A"], (0, 0)),
        (["n", "\x1b[H"], (0, 0)),
        (["g", "3", "\r"], (0, 2)),
        (["g", "9", "9", "\n"], (0, 2)),
        (["e", "3", "\r", "$"], (2, 3)),
        (["e", "1", "3", "\x7f", "\r"], (0, 0)),
        (["g", "2", "\x1b", "n"], (0, 1)),
        (["g", "\r"], (0, 0)),
        (["g", "0", "\r"], (0, 0)),
        (["?", "\x1b[Z", "ü"], (0, 0)),
    ],
)
def test_keys(keys: list[str], place: tuple[int, int]) -> None:
    assert after(*keys) == place


def test_going_back_over_the_beginning_ends_at_the_last_step_of_the_one_before() -> None:
    assert after("p", episode=1) == (0, 2)


def test_playing_goes_on_to_the_very_end_and_stops_there() -> None:
    at = Position(len(LENGTHS), LENGTHS.__getitem__)
    at.press(" ")
    seen = []
    while at.playing:
        seen.append((at.episode, at.step))
        at.tick()
    assert seen == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3)]


def test_pace_and_scroll_have_ends() -> None:
    at = Position(1, lambda _: 1)
    for _ in range(9):
        at.press("+")
        at.press("k")
    assert (at.seconds_a_step, at.scroll) == (0.1, 0)
    at.press("j")
    assert at.scroll == 5
    at.press("n")
    assert at.scroll == 0, "another step is read from its top"


@pytest.mark.parametrize("key", ["q", "\x04"])
def test_leaving(key: str) -> None:
    at = Position(1, lambda _: 1)
    at.press(key)
    assert at.left


def test_keys_that_arrive_together_are_told_apart() -> None:
    assert keys_in("\x1b[C\x1bOBn\x1b[5~q\x1b") == ["\x1b[C", "\x1bOB", "n", "\x1b[5~", "q", "\x1b"]
