"""BabyAI's own bot as a player that may be asked at any move, whoever chose the moves before.

Knows minigrid's bot and its levels. Knows nothing about words, tokens, models or training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

_FORWARD, _DONE = 2, 6
_MOST_SEARCHES = 30


class _Circle(Exception):
    """A plan that leads to no action."""


@cache
def _bot() -> tuple[Callable[[Any], Any], tuple[type[Exception], ...]]:
    """BabyAI's bot, and what it raises where moves that it did not choose, or a level beyond it, leave it no plan.

    Some plans go in circles, so there is a bound on how many paths it looks for before it names an action; those that
    ended looked for seven at most, on five of the largest levels.
    """
    from minigrid.utils.baby_ai_bot import BabyAIBot, DisappearedBoxError

    class Mind(BabyAIBot):
        def __init__(self, level: Any) -> None:
            self._searches = 0
            super().__init__(level)  # type: ignore[no-untyped-call]

        def replan(self, action_taken: int | None = None) -> Any:
            self._searches = 0
            return super().replan(action_taken)  # type: ignore[no-untyped-call]

        def _shortest_path(self, *arguments: Any, **further: Any) -> Any:
            self._searches += 1
            if self._searches > _MOST_SEARCHES:
                raise _Circle
            return super()._shortest_path(*arguments, **further)  # type: ignore[no-untyped-call]

    lost = (_Circle, AssertionError, AttributeError, DisappearedBoxError, IndexError, TypeError, ValueError)
    return Mind, lost


class Bot:
    """Plays along on a level of its own, so that it has seen what the agent saw since the start."""

    def __init__(self, level: Any) -> None:
        """`level` stands at its start, and is the bot's from now on."""
        self._level, self._moves = level, 0
        self._make, self._lost = _bot()
        self._mind = self._make(level)
        self._next = self._plan(None)

    def next_after(self, played: Sequence[int]) -> int:
        """The number of the action that it would play, once all of `played` were, from the start."""
        for action in played[self._moves :]:
            self._level.step(action)
            self._moves += 1
            self._next = self._plan(action)
        return self._next

    def _plan(self, action: int | None) -> int:
        """One that is lost makes a new plan for the whole mission, and remembers what it saw; and else goes forward."""
        for taken in (action, None):
            try:
                found = int(self._mind.replan(taken))
            except self._lost:
                found = _DONE
            if found != _DONE:
                return found
            seen, self._mind = self._mind.vis_mask, self._make(self._level)
            self._mind.vis_mask = seen
        return _FORWARD
