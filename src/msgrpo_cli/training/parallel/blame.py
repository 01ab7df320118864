"""Whose fault it is: an error that ends a run of several processes remembers its rank, and says so in the end.

Knows exceptions. Knows nothing about torch, how errors travel from rank to rank, or what they are about.
"""

from __future__ import annotations

from typing import TypeVar

from msgrpo_cli.common.text import one_line
from msgrpo_cli.errors import Interrupted, RunError, UsageError

E = TypeVar("E", bound=BaseException)
_ATTRIBUTE = "of_rank"
"""Pickle takes it along."""


def blame(error: E, whose: str | None) -> E:
    """The same error, which knows from now on whose it is, such as `rank 1 of 2 on node7, during rollout`; whoever was
    blamed before stays so."""
    if whose is not None:
        vars(error).setdefault(_ATTRIBUTE, whose)
    return error


def blamed(error: BaseException) -> str | None:
    """Whose fault an error is, or whatever it came of; None where nobody was blamed."""
    seen: BaseException | None = error
    while seen is not None:
        if (whose := vars(seen).get(_ATTRIBUTE)) is not None:
            return str(whose)
        seen = seen.__cause__ or seen.__context__
    return None


def naming(error: BaseException, whose: str) -> BaseException:
    """The same error, whose message says whose it is."""
    text = str(error) if isinstance(error, (RunError, UsageError, Interrupted)) else one_line(error)
    if error.args and error.args[0] == str(error):
        error.args = (f"{text} ({whose})", *error.args[1:])
        return error
    return RunError(f"{type(error).__name__}: {text} ({whose})")
