"""`msgrpo rerun`: a run repeated from what its own directory says, and whether it came out the same.

Knows run directories and their rows. Knows nothing about models or how training works.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Mapping
from itertools import zip_longest
from typing import Any

from msgrpo_cli.common.jsonl import read_lines
from msgrpo_cli.config.saved import load_saved, saved_text
from msgrpo_cli.errors import UsageError
from msgrpo_cli.models.precision import check_precision
from msgrpo_cli.planning.disk import check_room
from msgrpo_cli.runs.directory import Run, find_run
from msgrpo_cli.runs.pretrained import check_reachable
from msgrpo_cli.runs.resume import differences

from .nodes import check_nodes, work_on


def rerun(text: str, command: list[str], allow_modules: Collection[str] = ()) -> dict[str, Any]:
    """Train again with the config and the number of threads of the run that `text` names, in a directory beside it.

    Returns what `rerun --json` prints. Raises UsageError for a run that is not done, RunError for work that failed.
    """
    original = Run(find_run(text).absolute())
    record = original.record()
    if record.get("status") != "done":
        raise UsageError(f"{original.path}: {record.get('status')}; only a run that is done can be compared")
    config = load_saved(original.config, allow_modules)
    check_reachable(config.model)
    check_precision(config)
    check_nodes(config)
    again = Run(original.path.with_name(f"{original.path.name}-again-{secrets.token_hex(2)}"))
    check_room(config, again.path)
    overrides = list(record.get("overrides") or [])
    again.create(command=command, overrides=overrides, config=saved_text(config))
    if record.get("threads"):
        os.environ["OMP_NUM_THREADS"] = str(record["threads"])  # read when torch is imported
    work_on(config, again.path, command=command, overrides=overrides)
    found = first_difference(original, again)
    return {
        "run": str(original.path),
        "rerun": str(again.path),
        "equal": found is None,
        "difference": found,
        "circumstances": differences(record, again.record()),
    }


def first_difference(one: Run, other: Run) -> dict[str, Any] | None:
    """Where the rows of two runs part, what the clock measured aside; None where they are equal."""
    for ours, theirs in ((one.metrics, other.metrics), (one.episodes, other.episodes)):
        pairs = zip_longest(read_lines(ours), read_lines(theirs), fillvalue=None)
        for number, (before, after) in enumerate(pairs, 1):
            if key := _differing_key(before, after):
                was, now = (row.get(key) if row else None for row in (before, after))
                return {"file": ours.name, "line": number, "key": key, "was": was, "is": now}
    return None


def _differing_key(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str | None:
    if before is None or after is None:
        return "kind"  # one of them has no such row
    keys = [key for key in {**before, **after} if not key.startswith("perf/")]
    return next((key for key in keys if before.get(key) != after.get(key)), None)


def as_text(outcome: Mapping[str, Any]) -> str:
    """The verdict in words."""
    lines = [f"{outcome['rerun']}"]
    found = outcome["difference"]
    if found is None:
        lines.append("equal: metrics and episodes are the same, but for what the clock measured")
    else:
        lines.append(
            f"different: {found['file']}, line {found['line']}: {found['key']} was {_short(found['was'])}, "
            f"is {_short(found['is'])}"
        )
        lines += outcome["circumstances"]
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
