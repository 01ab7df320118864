"""Jinja templates that come from configs: they may read what they are given, and they end.

Knows Jinja. Knows nothing about prompts or games.
"""

from __future__ import annotations

from typing import Any

from jinja2 import StrictUndefined, Template
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

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


class BoundedRange:
    """`range` for one rendering: all its loops together have a bound."""

    def __init__(self) -> None:
        self._left = _MOST

    def range(self, *bounds: int) -> range:
        wanted = range(*bounds)
        self._left -= max(1, len(wanted))
        if self._left < 0:
            raise SecurityError(f"loops of more than {_MOST} rounds")
        return wanted


def template_of(text: str) -> Template:
    """A template whose unknown names are errors. Raises jinja2.TemplateError for a broken one."""
    environment = _Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text)
