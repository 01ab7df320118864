"""Episodes as one HTML page that works offline: a list of episodes, a slider over their steps.

Knows rows of episodes.jsonl and the template beside this module. Knows nothing about where episodes come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from msgrpo_cli.common.numbers import number
from msgrpo_cli.common.text import visible
from msgrpo_cli.runs.episodes import Row

from .selection import total_regret
from .steps import origin, outcome, totals, verdict, word

LIMIT = 200
"""Episodes in a page that nobody limited: beyond, browsers become slow and the file large."""

T = TypeVar("T")


def spread(items: Sequence[T], count: int) -> list[T]:
    """`count` of the items, the first and the last among them, at even distances; all where there are no more."""
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[0]]
    return [items[round(place * (len(items) - 1) / (count - 1))] for place in range(count)]


def page(rows: Sequence[tuple[int, Row]], *, title: str, notes: Sequence[str]) -> str:
    """The page of numbered episodes; `notes` say what they are and what was left out.

    Whatever models and games wrote reaches the page as JSON in which no character can end its element.
    """
    from jinja2 import Environment, StrictUndefined

    source = (Path(__file__).with_name("page.html")).read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
    return template.render(title=title, notes=notes, episodes=[_episode(line, row) for line, row in rows])


def _episode(line: int, row: Row) -> dict[str, Any]:
    regret = total_regret(row)
    label = [f"episode {line}", word(row["ended_by"]), f"reward {number(row['total_reward'])}"]
    if row["update"] is not None:
        label.insert(1, f"update {row['update']}")
    if regret is not None:
        label.append(f"regret {number(regret)}")
    return {
        "label": ", ".join(label),
        "origin": origin(row),
        "outcome": outcome(row),
        "steps": [
            {
                "observation": visible(step["observation"]),
                "completion": visible(step["completion"]),
                "action": word(step["action"]),
                "optimal": word(step["optimal_action"]),
                "regret": number(step["regret"]),
                "reward": number(step["reward"]),
                "total": number(total),
                "verdict": asdict(verdict(step)),
            }
            for step, total in zip(row["steps"], totals(row), strict=True)
        ],
    }
