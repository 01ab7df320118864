"""`msgrpo replay` as typed, on a real run and on episodes typed by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from msgrpo_cli.analysis.replay.steps import verdict
from msgrpo_cli.cli.app import app
from msgrpo_cli.common.jsonl import read_lines
from support.recorded_episodes import episode, step, with_regrets, written


def replay(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    done = CliRunner().invoke(app, ["replay", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def as_json(*arguments: object) -> dict[str, Any]:
    code, out, _ = replay(*arguments, "--json")
    assert code == 0
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_real_run_as_text(finished_run: Path) -> None:
    code, out, err = replay(finished_run)
    rows = list(read_lines(finished_run / "episodes.jsonl"))
    assert code == 0 and len(rows) == 24
    assert out.count("\nstep 1/") == 24 and out.startswith(
        "episode 1 of 24, line 1: update 1, train, frozenlake, seed "
    )
    for row in rows:
        for place, one in enumerate(row["steps"], 1):
            assert f"step {place}/{len(row['steps'])}\n  observation\n" in out
            assert f"    {one['completion']}\n" in out
    assert err == "episodes.jsonl: 24 of 24 episodes.\n"


def test_one_update_and_an_evaluation(finished_run: Path) -> None:
    found = as_json(finished_run, "--update", 2)
    assert {row["update"] for row in found["episodes"]} == {2}
    assert (found["episodes_read"], found["episodes_matching"], len(found["episodes"])) == (24, 8, 8)
    best = as_json(finished_run, "--eval", "best", "--limit", 3)
    assert best["file"] == "eval/best.episodes.jsonl" and best["episodes_matching"] == 24
    assert [(row["split"], row["advantage"]) for row in best["episodes"]] == [("test", None)] * 3


def test_the_json_is_the_line_and_where_it_stands(finished_run: Path) -> None:
    rows = list(read_lines(finished_run / "episodes.jsonl"))
    found = as_json(finished_run, "--worst", 4)
    assert found["ranked_by"] == "regret" and found["unranked"] == 0
    regrets = [row["total_regret"] for row in found["episodes"]]
    every = sorted((sum(one["regret"] or 0.0 for one in row["steps"]) for row in rows), reverse=True)
    assert regrets == pytest.approx(every[:4])
    for row in found["episodes"]:
        assert {key: row[key] for key in rows[0]} == rows[row["line"] - 1]


def test_a_copy_with_neither_the_record_nor_the_weights(finished_run: Path, tmp_path: Path) -> None:
    for name in ("episodes.jsonl", "config.yaml"):
        shutil.copy(finished_run / name, tmp_path)
    assert replay(tmp_path)[1] == replay(finished_run)[1]


def test_neither_torch_nor_the_game_is_needed(finished_run: Path, tmp_path: Path) -> None:
    shutil.copy(finished_run / "episodes.jsonl", tmp_path)
    (tmp_path / "config.yaml").write_text(
        "env: {name: corridor, id: 'nobody_has_it:me/Corridor-v0'}\nmodel: {name: x}\n"
    )
    code = (
        "import sys\nfrom msgrpo_cli.cli.app import main\n"
        f"sys.argv = ['msgrpo', 'replay', {str(tmp_path)!r}, '--html', {str(tmp_path / 'page.html')!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n"
        "    heavy = ('torch', 'trl', 'gymnasium', 'hydra', 'matplotlib', 'nobody_has_it')\n"
        "    print(end.code or 0, [name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout.splitlines() == [str(tmp_path / "page.html"), "0 []"]
    assert "x on corridor" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--update", "9"], "--update 9: no episode is of that update; there are 1 to 3"),
        (["--ended-by", "goat"], "--ended-by goat: no episode ended so; there are "),
        (["--eval", "bset"], "there are base, best, validation-0, validation-2"),
        (["--text", "--json"], "--text and --json: only one of them"),
        (["--html", "x", "--text"], "--text and --html: only one of them"),
        (["--worst", "0"], "--worst"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_mistakes(finished_run: Path, arguments: list[str], line: str) -> None:
    code, out, err = replay(finished_run, *arguments)
    assert (code, out) == (2, "")
    assert line in err and "Traceback" not in err


def test_no_run_and_a_run_without_episodes(tmp_path: Path) -> None:
    assert replay(tmp_path)[0] == 2 and "no run.json" in replay(tmp_path)[2]
    (tmp_path / "run.json").write_text("{}")
    code, _, err = replay(tmp_path)
    assert code == 2 and "episodes.jsonl: no such file; the run has recorded no episode yet" in err


def test_nothing_left_by_the_filters_is_said_and_no_page_is_written(tmp_path: Path) -> None:
    run = written(tmp_path, [episode()])
    assert replay(run, "--invalid") == (0, "", "episodes.jsonl: 0 of 1 episodes (--invalid).\n")
    assert as_json(run, "--invalid")["episodes"] == []
    code, out, err = replay(run, "--invalid", "--html", tmp_path / "page.html")
    assert (code, out) == (2, "") and "not written: no episode is left by --invalid" in err
    assert not (tmp_path / "page.html").exists()


def test_what_a_model_wrote_commands_no_terminal(tmp_path: Path) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07[bold]x[/bold]\ud800\u202e"
    run = written(tmp_path, [episode(step(evil, completion=evil), ended_by=evil)])
    code, out, _ = replay(run)
    assert code == 0 and out.count("\\x1b[2J\\x1b]0;owned\\x07[bold]x[/bold]\\ud800\\u202e") == 3
    assert "\x1b" not in out and "\x07" not in out


def test_what_is_said_of_each_step(tmp_path: Path) -> None:
    run = written(
        tmp_path,
        [
            episode(
                step("a"),
                step("b", action="up", optimal_action="down"),
                step("c", action="up", optimal_action="down", regret=0.25, reward=-1.0),
                step("d", None, regret=None),
                step("e", optimal_action=None, regret=None),
            )
        ],
    )
    lines = [line for line in replay(run)[1].splitlines() if " action " in line]
    assert lines == [
        "  ✓ action right, optimal right, regret 0.000, reward 0.000, total 0.000: optimal",
        "  ✓ action up, optimal down, regret 0.000, reward 0.000, total 0.000: optimal, as is down",
        "  ▼ action up, optimal down, regret 0.250, reward -1.000, total -1.000: 0.250 worse than down",
        "  × action -, optimal right, regret -, reward 0.000, total -1.000: invalid: no action in the answer",
        "  · action right, optimal -, regret -, reward 0.000, total -1.000: optimal play is not known here",
    ]


def test_an_output_that_knows_ascii_alone(tmp_path: Path) -> None:
    run = written(tmp_path, [episode(step("a", completion="向上", regret=0.5))])
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "msgrpo_cli", "replay", str(run)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0 and "    \\u5411\\u4e0a\n  \\u25bc action right" in done.stdout


def test_a_ranking_by_reward_says_so(tmp_path: Path) -> None:
    run = written(tmp_path, [with_regrets(None, total_reward=reward) for reward in (2.0, 1.0, 3.0)])
    code, out, err = replay(run, "--worst", 2)
    assert code == 0 and [line[:25] for line in out.splitlines() if "episode " in line] == [
        "episode 1 of 2, line 2: u",
        "episode 2 of 2, line 1: u",
    ]
    assert (
        err == "episodes.jsonl: 2 of 3 episodes (--worst 2).\nThe worst first, by total reward: no regret is known.\n"
    )


def test_a_damaged_line_is_told(tmp_path: Path) -> None:
    run = written(tmp_path, [episode()], tail="nonsense\n")
    code, out, err = replay(run)
    assert code == 0 and out.count("step 1/2") == 1 and "line 2 is damaged; what follows it is left out" in err


def test_an_illegal_answer_is_told_from_one_without_an_action() -> None:
    nothing, illegal = step(action=None), step(action=None, illegal=True)
    assert verdict(nothing).words == "invalid: no action in the answer"
    assert (verdict(illegal).name, verdict(illegal).words) == ("invalid", "invalid: no move of this state")
    assert verdict(step(illegal=False)).words == "optimal"
