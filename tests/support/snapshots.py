"""What lies in a folder, so that two moments can be compared."""

from __future__ import annotations

import os
from pathlib import Path


def snapshot(folder: Path) -> dict[str, object]:
    """For every path below: what a link points to, the size of a file and when it was last written, or that it is a
    directory. Nothing is read: a test may ask this of thousands of files."""
    found: dict[str, object] = {}
    open_ = [str(folder)]
    while open_:
        with os.scandir(open_.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    found[entry.path] = os.readlink(entry.path)
                elif entry.is_dir():
                    found[entry.path] = "directory"
                    open_.append(entry.path)
                else:
                    status = entry.stat()
                    found[entry.path] = status.st_size, status.st_mtime_ns
    return found
