"""From a state to the messages that a language model reads: Jinja templates over the game's own words.

Knows games and words. Knows nothing about tokens or models.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

from .games.core import TextMediatedStochasticGame

_MOST = 100_000
"""Rounds of a template's loops, and characters or items of a product: what goes beyond is a mistake, not a prompt."""


class _Environment(SandboxedEnvironment):
    """Jinja's sandbox, whose loops and products end."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse what would fill the memory."""
        sized, times = (left, right) if hasattr(left, "__len__") else (right, left)
        if hasattr(sized, "__len__") and isinstance(times, int) and len(sized) * times > _MOST:
            raise SecurityError(f"a product of more than {_MOST} characters or items")
        if operator == "**" and isinstance(right, int) and right > _MOST.bit_length():
            raise SecurityError("a power that is too large")
        return super().call_binop(context, operator, left, right)


class _Rounds:
    """`range` for one rendering: all its loops together have a bound."""

    def __init__(self) -> None:
        self._left = _MOST

    def range(self, *bounds: int) -> range:
        wanted = range(*bounds)
        self._left -= max(1, len(wanted))
        if self._left < 0:
            raise SecurityError(f"loops of more than {_MOST} rounds")
        return wanted


Messages = tuple[tuple[str, str], ...]
"""(role, content) pairs; hashable, so that equal states share one encoding."""


@dataclass(frozen=True)
class PromptTemplate:
    """System and user text as Jinja templates.

    `system` may use rules, actions (names) and max_steps; `user` observation as well. Raises ValueError from `check`
    where a template is broken or names something else.
    """

    system: str | None
    user: str

    @cached_property
    def _templates(self) -> list[tuple[str, Template]]:
        environment = _Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        texts = [("system", self.system), ("user", self.user)]
        return [(role, environment.from_string(text)) for role, text in texts if text]

    def messages(self, game: TextMediatedStochasticGame, observation: str) -> Messages:
        """The conversation for one decision: the current state and nothing before it."""
        values = {
            "rules": game.rules(),
            "actions": list(game.actions),
            "max_steps": game.max_steps,
            "observation": observation,
            "range": _Rounds().range,
        }
        return tuple((role, template.render(values).strip()) for role, template in self._templates)

    def check(self, game: TextMediatedStochasticGame) -> None:
        """Render the present state once, so that a broken template is found before anything is played."""
        try:
            messages = self.messages(game, game.describe())
        except (TemplateError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            reason = getattr(error, "message", None) or error
            raise ValueError(f"the prompt template is broken: {reason}") from error
        if not any(role == "user" and text for role, text in messages):
            raise ValueError("the user text is empty")
