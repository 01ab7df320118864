"""What is said about a step and an episode, in few words and as plain lines: for pages, screens, pipes and logs.

Knows rows of episodes.jsonl and text. Knows nothing about terminals or pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from msgrpo_cli.common.numbers import number
from msgrpo_cli.common.text import visible, visible_line
from msgrpo_cli.runs.episodes import Row

from .selection import total_regret

_NO_REGRET = 1e-9


@dataclass(frozen=True)
class Verdict:
    """How good one decision was."""

    name: str
    """`optimal`, `worse`, `invalid` or `unknown`; names its colour, too."""
    symbol: str
    words: str


def verdict(step: Mapping[str, Any]) -> Verdict:
    """An answer without an action, or with one that is no move of the state, is invalid, whatever was played then.

    The step's own advantage goes along where training gave the steps of the episode different ones, and of several
    players who decided.
    """
    found = _judged(step)
    if "seat" in step:
        found = replace(found, words=f"player {step['seat']}: {found.words}")
    own = step.get("advantage")
    return found if not isinstance(own, (int, float)) else replace(found, words=f"{found.words}; advantage {own:+.3f}")


def _judged(step: Mapping[str, Any]) -> Verdict:
    best, regret = step["optimal_action"], step["regret"]
    if not step["valid"]:
        why = "no move of this state" if step.get("illegal") else "no action in the answer"
        return Verdict("invalid", "×", f"invalid: {why}")
    if regret is None:
        return Verdict("unknown", "·", "optimal play is not known here")
    if regret > _NO_REGRET:
        return Verdict("worse", "▼", f"{number(regret)} worse than {visible_line(str(best))}")
    same = step["action"] == best or best is None
    return Verdict("optimal", "✓", "optimal" if same else f"optimal, as is {visible_line(str(best))}")


def word(value: Any) -> str:
    """A name that a game gave, on one line; `-` where there is none."""
    return "-" if value is None else visible_line(str(value))


def totals(row: Row) -> list[float]:
    """Total reward up to and with each step; of several players that of whoever decided."""
    so_far: dict[int, float] = {}
    found = []
    for step in row["steps"]:
        seat = step.get("seat", 0)
        so_far[seat] = so_far.get(seat, 0.0) + (step["reward"] or 0.0)
        found.append(so_far[seat])
    return found


def origin(row: Row) -> str:
    """Where an episode comes from."""
    when = "" if row["update"] is None else f"update {row['update']}, "
    start = f"seed {row['seed']}, group {row['group']} member {row['member']}"
    return f"{when}{word(row['split'])}, {word(row['env'])}, {start}"


def outcome(row: Row) -> list[str]:
    """What came of an episode; advantage and drawing are known of training alone."""
    ended = f"ended by {word(row['ended_by'])}"
    if row.get("seats"):
        of_seats = [
            f"player {seat} ({word(had['player'])}) {' '.join(_outcome(had))}" for seat, had in enumerate(row["seats"])
        ]
        return [ended, *of_seats]
    [*won, total], trained = _outcome(row), _training(row)
    return [ended, *won, total, f"regret {number(total_regret(row))}", *trained]


def _outcome(row: Mapping[str, Any]) -> list[str]:
    """Of an episode, or of a seat, whose training goes along."""
    won = {True: ["won"], False: ["not won"]}.get(row["success"], [])
    return [*won, f"total reward {number(row['total_reward'])}", *(_training(row) if "player" in row else ())]


def _training(row: Mapping[str, Any]) -> list[str]:
    advantage = [] if row["advantage"] is None else [f"advantage {row['advantage']:+.3f}"]
    drawn = [] if row["drawn"] is None else ["drawn for training" if row["drawn"] else "not drawn"]
    return [*advantage, *drawn]


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
