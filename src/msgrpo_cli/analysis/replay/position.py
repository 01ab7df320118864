"""Where a person stands in a replay, and what each key does about it.

Knows numbers of episodes and steps, and keys. Knows nothing about terminals or what an episode holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_SECONDS = (2.0, 1.0, 0.5, 0.25, 0.1)  # a step, at each pace
_ENTER, _BACKSPACE = ("\r", "\n"), ("\x7f", "\b")


@dataclass
class Position:
    """Episodes and steps count from 0 here and from 1 on the screen."""

    episodes: int
    steps_of: Callable[[int], int]
    """Number of steps of an episode."""
    episode: int = 0
    step: int = 0
    scroll: int = 0
    """Lines of the texts that lie above the window."""
    playing: bool = False
    pace: int = 2
    typed: str | None = None
    """Digits of a jump that is being typed; None otherwise."""
    jump_to: str = "step"
    """What is being jumped to: `step` or `episode`."""
    left: bool = False

    @property
    def seconds_a_step(self) -> float:
        return _SECONDS[self.pace]

    def press(self, key: str) -> None:
        """Do what a key stands for; others do nothing."""
        if self.typed is not None:
            self._type(key)
        elif key in _KEYS:
            _KEYS[key](self)

    def tick(self) -> None:
        """Time for the next step while it plays; at the end of the last episode it stops."""
        before = (self.episode, self.step)
        self.go(1)
        self.playing = (self.episode, self.step) != before

    def go(self, steps: int) -> None:
        """One step on or back, over the ends of episodes, too."""
        goal = self.step + steps
        if goal < 0 and self.episode > 0:
            self.go_to(self.episode - 1, self.steps_of(self.episode - 1) - 1)
        elif goal >= self.steps_of(self.episode) and self.episode + 1 < self.episodes:
            self.go_to(self.episode + 1, 0)
        else:
            self.go_to(self.episode, goal)

    def go_to(self, episode: int, step: int) -> None:
        """The nearest place that exists."""
        self.episode = max(0, min(self.episodes - 1, episode))
        self.step = max(0, min(self.steps_of(self.episode) - 1, step))
        self.scroll = 0

    def scroll_by(self, lines: int) -> None:
        self.scroll = max(0, self.scroll + lines)

    def change_pace(self, by: int) -> None:
        self.pace = max(0, min(len(_SECONDS) - 1, self.pace + by))

    def toggle(self) -> None:
        self.playing = not self.playing

    def leave(self) -> None:
        self.left = True

    def begin_jump(self, to: str) -> None:
        self.jump_to, self.typed, self.playing = to, "", False

    def _type(self, key: str) -> None:
        digits = self.typed or ""
        if key.isascii() and key.isdigit():
            self.typed = (digits + key)[:9]
        elif key in _BACKSPACE:
            self.typed = digits[:-1]
        else:
            self.typed = None
            if key in _ENTER and digits:
                goal = int(digits) - 1
                self.go_to(*((self.episode, goal) if self.jump_to == "step" else (goal, 0)))


def _several(keys: tuple[str, ...], act: Callable[[Position], None]) -> dict[str, Callable[[Position], None]]:
    return dict.fromkeys(keys, act)


def _arrow(letter: str) -> tuple[str, str]:
    return f"\x1b[{letter}", f"\x1bO{letter}"


_KEYS: dict[str, Callable[[Position], None]] = {
    **_several((*_arrow("C"), "n", "l", *_ENTER), lambda at: at.go(1)),
    **_several((*_arrow("D"), "p", "h"), lambda at: at.go(-1)),
    **_several((*_arrow("B"), "N"), lambda at: at.go_to(at.episode + 1, 0)),
    **_several((*_arrow("A"), "P"), lambda at: at.go_to(at.episode - 1, 0)),
    **_several((*_arrow("H"), "\x1b[1~", "\x1b[7~", "0"), lambda at: at.go_to(at.episode, 0)),
    **_several((*_arrow("F"), "\x1b[4~", "\x1b[8~", "$"), lambda at: at.go_to(at.episode, at.steps_of(at.episode))),
    **_several(("j", "\x1b[6~"), lambda at: at.scroll_by(5)),
    **_several(("k", "\x1b[5~"), lambda at: at.scroll_by(-5)),
    "g": lambda at: at.begin_jump("step"),
    "e": lambda at: at.begin_jump("episode"),
    " ": Position.toggle,
    "+": lambda at: at.change_pace(1),
    "-": lambda at: at.change_pace(-1),
    **_several(("q", "\x04"), Position.leave),
}
