"""Episodes as plain lines, for pipes, logs and screen readers.

Knows rows of episodes.jsonl and text. Knows nothing about terminals.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgrpo_cli.common.text import visible
from msgrpo_cli.replay_steps import number, origin, outcome, totals, verdict, word
from msgrpo_cli.runs.episodes import Row


def lines_of(row: Row, heading: str) -> Iterator[str]:
    """One episode, the heading first; its texts are indented and nothing is wrapped."""
    steps = row["steps"]
    yield f"{heading}: {origin(row)}"
    yield f"  {', '.join(outcome(row))}"
    for position, (step, total) in enumerate(zip(steps, totals(row), strict=True), 1):
        found = verdict(step)
        yield f"step {position}/{len(steps)}"
        for name in ("observation", "completion"):
            yield f"  {name}"
            yield from (f"    {line}" for line in visible(step[name]).split("\n"))
        yield (
            f"  {found.symbol} action {word(step['action'])}, optimal {word(step['optimal_action'])}, regret "
            f"{number(step['regret'])}, reward {number(step['reward'])}, total {number(total)}: {found.words}"
        )
    yield ""
