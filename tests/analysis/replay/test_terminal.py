"""The replay in a real pseudo-terminal of several sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from msgrpo_cli.analysis.replay.position import Position
from msgrpo_cli.analysis.replay.terminal import Screen
from support.recorded_episodes import Row, episode, step, written
from support.terminals import plain, terminal

LONG = "\n".join(f"row {n:03} " + "#" * 200 for n in range(60))


def screen(row: Row, columns: int, lines: int, **at: int) -> list[str]:
    position = Position(9, lambda _: len(row["steps"]), **at)
    console = Console(width=columns, height=lines, force_terminal=True, color_system=None)
    with console.capture() as caught:
        console.print(Screen(row, 1, position, "run"), height=lines, end="")
    return plain(caught.get()).rstrip("\n").split("\n")


@pytest.mark.parametrize("columns", [60, 100, 160])
@pytest.mark.parametrize("observation", ["P . G", LONG, "", "\x1b[2J[bold]"])
def test_it_fits_and_shows_the_decision_whatever_the_texts_are(columns: int, observation: str) -> None:
    lines = screen(episode(step(observation, completion=LONG, regret=0.5), step()), columns, 24)
    assert len(lines) <= 24 and max(map(len, lines)) <= columns
    whole = "\n".join(lines)
    assert "▼ 0.500 worse than right" in whole and "total reward 0.000" in whole and "\x1b" not in whole
    assert "1▼" in whole, "the strip of steps"


def test_long_texts_scroll() -> None:
    row = episode(step(LONG))
    assert any("row 000" in line for line in screen(row, 100, 24))
    down = screen(row, 100, 24, scroll=40)
    assert not any("row 000" in line for line in down)
    assert screen(row, 100, 24, scroll=10**6) == screen(row, 100, 24, scroll=10**5), "no further than the end"


def test_a_very_small_terminal_does_no_harm() -> None:
    assert max(map(len, screen(episode(step(LONG)), 20, 5))) <= 20


def test_keys_lead_through_a_real_run_and_the_terminal_is_left_as_it_was(finished_run: Path) -> None:
    rows = [json.loads(line) for line in (finished_run / "episodes.jsonl").read_text().splitlines()]
    counts = [len(row["steps"]) for row in rows if row["update"] == 2]
    longest = counts.index(max(counts))
    with terminal("replay", str(finished_run), "--update", "2") as seen:
        seen.wait_for("episode 1/8  step 1/")
        assert not seen.echoes()
        seen.press("\x1b[B\x1b[B")
        seen.wait_for("episode 3/8  step 1/")
        mark = len(seen.output)
        seen.press(f"e{longest + 1}\r")
        seen.wait_for(f"episode {longest + 1}/8  step 1/{max(counts)}", mark)
        mark = len(seen.output)
        seen.press("\x1b[F")
        seen.wait_for(f"step {max(counts)}/{max(counts)}", mark)
        mark = len(seen.output)
        seen.resize(60, 20)
        seen.wait_for("jk q", mark)
        seen.press("q")
        assert seen.wait_for_the_end() == 0
        assert seen.echoes() and "\x1b[?1049l" in seen.output and seen.output.rstrip().endswith("(--update 2).")


def test_playing_goes_on_by_itself(tmp_path: Path) -> None:
    run = written(tmp_path, [episode()])
    with terminal("replay", str(run)) as seen:
        seen.wait_for("step 1/2")
        seen.press("++ ")
        seen.wait_for("step 2/2")
        seen.press("\x03")
        assert seen.wait_for_the_end() == 130
        assert seen.echoes()
