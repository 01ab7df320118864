"""Jinja templates that come from configs: they may read what they are given, and they end.

Knows Jinja. Knows nothing about prompts or games.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

from jinja2 import StrictUndefined, Template
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

_MOST = 100_000
"""Rounds of a template's loops, and characters or items of a product: what goes beyond is a mistake, not a prompt."""


class _Environment(SandboxedEnvironment):
    """Jinja's sandbox, whose loops and products end."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name in ("center", "format", "indent", "wordwrap"):  # which Jinja does not pass through `call`
            self.filters[name] = _bounded(self.filters[name])

    def call(self, context: Context, called: Any, *given: Any, **named: Any) -> Any:
        """Refuse widths that would fill the memory, as in `"x".zfill(10**9)`."""
        text = getattr(called, "__self__", None)
        if isinstance(text, str):
            _refuse_large(f"%{text}", *given, *named.values())
        return super().call(context, called, *given, **named)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Jinja's own `str.format`, for texts whose widths are bounded."""
        if isinstance(text := getattr(value, "__self__", None), str):
            _refuse_large(f"%{text}")
        return super().wrap_str_format(value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse what would fill the memory."""
        sized, times = (left, right) if hasattr(left, "__len__") else (right, left)
        if hasattr(sized, "__len__") and isinstance(times, int) and len(sized) * times > _MOST:
            raise SecurityError(f"a product of more than {_MOST} characters or items")
        if operator == "%" and isinstance(left, str):
            _refuse_large(left)
        if operator == "**" and isinstance(right, int) and right > _MOST.bit_length():
            raise SecurityError("a power that is too large")
        return super().call_binop(context, operator, left, right)


def _refuse_large(*given: Any) -> None:
    """Numbers, and widths in a format, beyond what a prompt can hold."""
    for value in given:
        numbers = map(int, re.findall(r"\d{1,18}", value)) if isinstance(value, str) and "%" in value else [value]
        if any(isinstance(number, int) and number > _MOST for number in numbers):
            raise SecurityError(f"a width of more than {_MOST} characters")


def _bounded(work: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose numbers have a bound."""

    @wraps(work)
    def bounded(*given: Any, **named: Any) -> Any:
        _refuse_large(*given, *named.values())
        return work(*given, **named)

    return bounded


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


@lru_cache(maxsize=256)
def template_of(text: str) -> Template:
    """A template whose unknown names are errors. Raises jinja2.TemplateError for a broken one.

    The same for the same text: every copy of a game asks for its own, and rendering leaves nothing in it.
    """
    return _environment().from_string(text)


def names_in(text: str) -> set[str]:
    """The names that a template reads from what it is given; none where it is broken."""
    try:
        return find_undeclared_variables(_environment().parse(text))
    except TemplateError:
        return set()


def _environment() -> _Environment:
    return _Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
