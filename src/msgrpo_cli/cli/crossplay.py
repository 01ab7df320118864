"""What `msgrpo lab crossplay` found, for people: a table of pairs and one of ratings.

Knows figures and rich. Knows nothing about how they were measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from string import ascii_uppercase
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from msgrpo_cli.common.numbers import NONE, counted, estimate, number, percent

_NAME = 12  # letters of a name that fit into both tables at 80 columns
_NO_RATINGS = "No ratings: both players of this game always get the same."


def show_crossplay(found: Mapping[str, Any]) -> None:
    """Print to stdout; of a zero-sum game each pair once, for what one gets the other loses."""
    console = Console(highlight=False)
    starts = f"{counted(found['episodes'], 'start')} ({found['split']})"
    console.print(
        f"{found['env']}: every pair plays {starts} both ways round; intervals of 95 %", markup=False, soft_wrap=True
    )
    short = _short([one["player"] for one in found["players"]])
    for name, letter in short.items():
        if letter != name:
            console.print(f"{letter}  {name}", markup=False, soft_wrap=True)
    console.print(_pairs(found, short))
    if found["ratings"] is None:
        console.print(_NO_RATINGS)
        return
    console.print(_ratings(found, short))
    console.print(
        "Rating: Bradley and Terry, in Elo's points around 0, by who got more; +-: standard error.", soft_wrap=True
    )


def _short(names: Sequence[str]) -> dict[str, str]:
    """Letters for names that would fill a table; the others as they are."""
    letters = (letter * times for times in count(1) for letter in ascii_uppercase)
    return {name: name if len(name) <= _NAME else next(letters) for name in names}


def _pairs(found: Mapping[str, Any], short: Mapping[str, str]) -> Table:
    table = Table(box=None, header_style="", pad_edge=False)
    for name in ("player", "against"):
        table.add_column(name, overflow="fold")
    for name in ("total reward", "on seat 0", "on seat 1", "won-drawn-lost"):
        table.add_column(name, justify="right", overflow="fold")
    for pair in found["pairs"]:
        ways = [(pair["first"], pair["second"], pair["wins"], pair["losses"])]
        if found["utility"] != "zero_sum":
            ways.append((pair["second"], pair["first"], pair["losses"], pair["wins"]))
        for player, other, won, lost in ways:
            both, of_seats = pair["mean_total_reward"][player], pair["by_seat"][player]
            figures = [estimate(both["mean"], both["ci95"]), *(number(one["mean"]) for one in of_seats)]
            table.add_row(Text(short[player]), Text(short[other]), *figures, f"{won}-{pair['draws']}-{lost}")
    return table


def _ratings(found: Mapping[str, Any], short: Mapping[str, str]) -> Table:
    valid = {one["player"]: one["valid_action_rate"] for one in found["players"]}
    table = Table(box=None, header_style="", pad_edge=False)
    table.add_column("player", overflow="fold")
    for name in ("rating", "+-", "95 %", "points", "games", "valid actions"):
        table.add_column(name, justify="right", overflow="fold")
    for one in found["ratings"]:
        share, ends = valid[one["player"]], one["interval"]
        table.add_row(
            Text(short[one["player"]]),
            f"{one['rating']:.0f}",
            f"{one['standard_error']:.0f}",
            NONE if ends is None else f"[{ends[0]:.0f}, {ends[1]:.0f}]",
            percent(one["score"]),
            str(one["games"]),
            NONE if share is None else percent(share),
        )
    return table
