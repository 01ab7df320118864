"""Heavy imports, without the garbage collector.

Knows the collector. Knows nothing about what is imported.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Around imports of torch and what stands on it: the collector would look through all of it again and again, and
    take a sixth of their time to find nothing."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
