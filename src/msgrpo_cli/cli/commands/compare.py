"""`msgrpo compare`: the best checkpoints of two runs on the very same episodes.

Knows arguments and how a comparison is shown. The work is `analysis/compare`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from msgrpo_cli.common.numbers import interval, number
from msgrpo_cli.common.text import part_in_words
from msgrpo_cli.errors import UsageError

from ..exit import ending
from ..options import AsJson, RunArgument, Verbose
from ..tables import plain_table

if TYPE_CHECKING:
    from msgrpo_cli.analysis.compare import Effect, PairedComparison


def compare(first: RunArgument, second: RunArgument, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Compare the best checkpoints of two runs on equal episodes.

    Effect, interval and p-value, from episodes with the same start and the same chance.
    """
    with ending(verbose):
        from msgrpo_cli.analysis.compare import compare_runs
        from msgrpo_cli.runs.directory import find_run

        one, other = find_run(first), find_run(second)
        if one.resolve() == other.resolve():
            raise UsageError(f"{second}: the same run as {first}; give two")
        found = compare_runs(one, other)
        if as_json:
            print(json.dumps(found.to_json(), allow_nan=False))
        else:
            _show_comparison(found, Console(highlight=False))


def _show_comparison(found: PairedComparison, console: Console) -> None:
    from msgrpo_cli.analysis.compare import sentence, warnings_on

    top = Table.grid(padding=(0, 2))
    for letter, side in (("A", found.first), ("B", found.second)):
        top.add_row(Text(letter, style="bold"), Text(f"{side.run}, {Path(side.checkpoint).name}, {side.evaluation}"))
    played = f"{found.episodes} episodes from {found.distinct_initial_states} starts, each played by both"
    top.add_row("on", Text(f"{found.env}, {part_in_words(found.split)}: {played}"))
    console.print(top)
    effects = [found.total_reward]
    if found.success is not None and found.success.means != found.total_reward.means:
        effects.append(found.success)
    table = plain_table("", *(effect.measure for effect in effects), right=[effect.measure for effect in effects])
    for name, tell in _ROWS.items():
        table.add_row(name, *(tell(effect) for effect in effects))
    console.print(table)
    if found.differences:
        configs = plain_table("configs differ in", "A", "B")
        for key, (one, other) in found.differences.items():
            configs.add_row(Text(key), Text(one), Text(other))
        console.print(configs)
    console.print(Text(sentence(found), style="bold"))
    for warning in warnings_on(found.total_reward):
        console.print(Text(warning))
    console.print("About these two checkpoints; whether a setting is better takes several seeds: msgrpo report.")


def _p(effect: Effect) -> str:
    return f"{effect.p_value:.3f}" if effect.p_value >= 0.001 else "< 0.001"


_ROWS: dict[str, Callable[[Effect], str]] = {
    "A": lambda effect: number(effect.means[0]),
    "B": lambda effect: number(effect.means[1]),
    "B - A": lambda effect: f"{effect.effect:+.3f}",
    "95 % interval": lambda effect: interval(effect.ci95),
    "p-value (sign flips of pairs)": _p,
    "smallest detectable difference": lambda effect: number(effect.smallest_detectable_difference),
    "episodes: A better / equal / B better": lambda effect: (
        f"{effect.first_better} / {effect.equal} / {effect.second_better}"
    ),
}
