"""Tables as the commands print them.

Knows rich. Knows nothing about what stands in a table.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table


def plain_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """A table with a line below its head alone; columns named in `right` are set right, and nothing is cut."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table
