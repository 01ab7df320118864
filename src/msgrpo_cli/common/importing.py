"""Heavy imports, without the garbage collector.

Knows the collector. Knows nothing about what is imported.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_stays = False


def imports_stay() -> None:
    """Of a process that is the program's own from start to end: what it imports is never looked through again. Else
    every collection, and accelerate asks for two in a run, takes 0.4 s for half a million objects that stay anyway. Not
    for a notebook's process: what else is there by then would stay, too."""
    global _stays
    _stays = True


@contextmanager
def importing() -> Iterator[None]:
    """Around imports of torch and what stands on it: the collector would look through all of it again and again, and
    take a sixth of their time to find nothing."""
    collects, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
        if _stays and len(sys.modules) > known:  # the second time, all that could be kept is some run's
            gc.freeze()
    finally:
        if collects:
            gc.enable()
