"""What a person sees: a live line on a terminal, plain lines elsewhere, the cursor always back."""

from __future__ import annotations

import io

from rich.console import Console

from msgrpo_cli.training.display import Display

METRICS = {
    "update": 1,
    "total_reward": 0.25,
    "success_rate": 0.5,
    "entropy": 0.125,
    "skipped": False,
    "valid_action_rate": 1.0,
}


def test_plain_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with Display(2, Console(file=out, width=100)) as display:
        display.phase("rollout", 3, 8)
        display.update(METRICS)
        display.update({**METRICS, "update": 2, "skipped": True, "entropy": None, "success_rate": None})
    lines = out.getvalue().splitlines()
    assert lines == ["update 1/2  reward 0.250  success 50.0 %  entropy 0.125", "update 2/2  reward 0.250  skipped"]


def test_a_terminal_gets_a_bar_and_its_cursor_back_even_after_an_error() -> None:
    out = io.StringIO()
    try:
        with Display(2, Console(file=out, width=120, force_terminal=True)) as display:
            display.phase("rollout", 3, 8)
            display.update(METRICS)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    shown = out.getvalue()
    assert "1/2" in shown and "success 50.0 %" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


def test_what_was_scored_is_named_in_words() -> None:
    out = io.StringIO()
    row = {"mean_total_reward": 0.5, "success_rate": None, "greedy_success_rate": None}
    with Display(2, Console(file=out, width=100)) as display:
        display.evaluated(0, "any", row)
        display.evaluated(2, "test", row, "best checkpoint")
    assert out.getvalue().splitlines() == [
        "after update 0, all starts: reward 0.500",
        "after update 2, test, best checkpoint: reward 0.500",
    ]
