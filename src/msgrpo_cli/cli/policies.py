"""What `msgrpo lab policy` and `msgrpo lab nash` found, for people.

Knows figures and rich. Knows nothing about how they were measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from msgrpo_cli.common.numbers import estimate, interval, percent


def equilibrium_told(found: Mapping[str, Any]) -> str:
    """A policy's distance from an equilibrium, for people."""
    table = Table(box=None, header_style="", pad_edge=False)
    for name in ("seat", "value", "sampled", "best response", "gains"):
        table.add_column(name, justify="left" if name == "seat" else "right", no_wrap=True)
    for seat, (exact, sampled) in enumerate(zip(found["seats"], found["sampled"]["seats"], strict=True)):
        gain = exact["best_response"] - exact["value"]
        seen = estimate(sampled["mean_total_reward"], sampled["mean_total_reward_ci95"])
        table.add_row(str(seat), f"{exact['value']:.3f}", seen, f"{exact['best_response']:.3f}", f"{gain:.3f}")
    console = Console(highlight=False, width=80)
    with console.capture() as shown:
        console.print(table)
    uncovered, random = found["uncovered"], found["random"]
    return "\n".join(
        [
            f"{found['checkpoint'] or found['model']} on every seat of {found['env']}: {found['information_sets']} "
            f"information sets, {found['nodes']} nodes",
            *(line.rstrip() for line in shown.get().splitlines()),
            f"NashConv {found['nash_conv']:.4f}, exploitability {found['exploitability']:.4f}; of uniform play "
            f"{random['nash_conv']:.4f} and {random['exploitability']:.4f}; 0 in an equilibrium.",
            f"Uncovered, answers other than a bare action: {percent(uncovered['mean'])} on average over information "
            f"sets, {percent(uncovered['worst'])} at worst; they count as invalid, and play {found['invalid_action']}.",
        ]
    )


def policy_told(found: Mapping[str, Any]) -> str:
    """A policy's worth, for people."""
    sampled, uncovered = found["sampled"], found["uncovered"]
    low, high = found["value"]
    whose = found["checkpoint"] or found["model"]
    rows = {
        "random play, exact": estimate(found["random"]),
        "computed, between": interval((low, high)),
        "  uncovered answers invalid": estimate(found["value_if_invalid"]),
        f"sampled, {sampled['episodes']} episodes": estimate(
            sampled["mean_total_reward"], sampled["mean_total_reward_ci95"]
        ),
        "optimal play, exact": estimate(found["optimal"]),
    }
    width = max(map(len, rows))
    return "\n".join(
        [
            f"{whose} on {found['env']}: {found['distinct_initial_states']} distinct starts ({found['split']}), "
            f"{found['states']} states",
            *(f"{name:<{width}}  {value}" for name, value in rows.items()),
            f"Uncovered, answers other than a bare action: {percent(uncovered['mean'])} of all decisions, "
            f"{percent(uncovered['worst'])} at worst.",
            f"Known to be invalid: {percent(found['invalid'])}. The sample's interval allows for other starts, too.",
        ]
    )
