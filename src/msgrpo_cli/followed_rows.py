"""A file of rows that somebody else is still writing: every look reads what is new, or its last rows alone.

Knows bytes, lines and JSON. Knows nothing about what the rows say.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]

_FIRST_CHUNK, _LARGEST_CHUNK = 1 << 16, 1 << 22  # bytes read from the end of a file


@dataclass
class FollowedRows:
    """All rows of a file that grows; `look` reads what was added since. Half a line waits for its other half.

    A run that is resumed cuts its files: then everything is read anew.
    """

    path: Path
    rows: list[Row] = field(default_factory=list)
    _offset: int = 0
    _last_line: bytes = b""
    """The last whole line that was read, by which a file that was cut and has grown again is noticed."""

    def look(self) -> bool:
        """Read on; whether the rows are others now. A file that is not there has none."""
        before = len(self.rows), self._last_line
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset - len(self._last_line))
                if file.read(len(self._last_line)) != self._last_line:
                    self._forget()
                    file.seek(0)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._offset += len(line)
                    self._last_line = line
                    self.rows += _row(line)
        except FileNotFoundError:
            self._forget()
        except OSError:  # a network file system that is away for a moment
            return False
        return before != (len(self.rows), self._last_line)

    def _forget(self) -> None:
        self.rows, self._offset, self._last_line = [], 0, b""


def last_rows(path: Path, count: int) -> list[Row]:
    """The last whole rows of a file, the latest last, reading no more of its end than they need, or than 4 MB."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            chunk = _FIRST_CHUNK
            while True:
                start = max(0, size - chunk)
                file.seek(start)
                lines = file.read(size - start).split(b"\n")[:-1]  # after the last line break there is half a row
                whole = lines[1:] if start else lines
                if len(whole) >= count or not start or chunk >= _LARGEST_CHUNK:
                    return [row for line in whole[-count:] for row in _row(line)]
                chunk *= 4
    except OSError:
        return []


def _row(line: bytes) -> list[Row]:
    """The row in a line; none where it is damaged: whoever watches a run does not judge its files."""
    try:
        row = json.loads(line)
    except ValueError:
        return []
    return [row] if isinstance(row, dict) else []
