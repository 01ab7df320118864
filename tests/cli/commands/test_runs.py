"""The list of runs on terminals of several widths."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from msgrpo_cli.analysis.listing import Listed
from msgrpo_cli.cli.commands.runs import _show_list

NAMES = ("072631-frozenlake_slippery-tiny-b5e7", "072655-frozenlake-tiny-1740")


def line(name: str, **fields: Any) -> Listed:
    told: dict[str, Any] = {
        "run": f"/w/{name}", "name": name, "status": "interrupted", "process_is_gone": False, "env": "frozenlake",
        "model": "tiny", "seed": 0, "updates": 180, "max_updates": 180, "score": 0.984, "score_split": "validation",
        "success_rate": None, "normalized_score": None, "start": None, "age_seconds": 720.0, "problem": None,
    }  # fmt: skip
    return Listed(**told | fields)


def shown(width: int, *lines: Listed, terminal: bool = True) -> list[str]:
    out = io.StringIO()
    _show_list(lines, Console(file=out, width=width, force_terminal=terminal, no_color=True, highlight=False))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [50, 60, 70, 80, 90, 120])
def test_names_are_folded_behind_hyphens_and_underscores_alone(width: int) -> None:
    lines = shown(width, *(line(name) for name in NAMES), terminal=False)
    assert max(map(len, lines)) <= width
    cells = [text.split("  ")[0].strip() for text in lines[3:]]
    assert "".join(cells) == "".join(NAMES)
    assert all(cell.endswith(("-", "_", "b5e7", "1740")) for cell in cells if cell)
    assert any("frozenlake_" in cell for cell in cells)


def test_a_person_is_told_what_the_score_is_of() -> None:
    assert "any" not in "".join(shown(120, line("a")))
    assert shown(120, line("a", score_split="any"))[-1].endswith("any: all that the game draws, none held out\x1b[0m")
    assert "played on" not in "".join(shown(120, line("a", score_split="any"), terminal=False))
