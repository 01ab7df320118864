"""`msgrpo lab policy` as it is typed: its table, its JSON, its file, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from msgrpo_cli.cli.app import app

SMALL = ["lab", "policy", "env.size=3", "env.max_steps=4", "eval.episodes=20", "trainer.use_cpu=true"]


def test_a_table_for_people_fits_eighty_columns(tmp_path: Path) -> None:
    out = tmp_path / "states.json"
    ended = CliRunner().invoke(app, [*SMALL, "--out", str(out)], env={"COLUMNS": "80"})
    assert ended.exit_code == 0, ended.stderr
    assert "computed, between" in ended.stdout and "sampled, 20 episodes" in ended.stdout
    assert max(map(len, ended.stdout.splitlines()[:-1])) <= 96
    [found] = json.loads(out.read_text())
    assert len(found["of_states"]) == found["states"]


def test_several_games_as_json() -> None:
    words = ["lab", "policy", "eval.scenarios=[frozenlake,frozenlake_slippery]", "eval.episodes=4", "--json"]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 0, ended.stderr
    assert [one["env"] for one in json.loads(ended.stdout)] == ["frozenlake", "frozenlake_slippery"]
    assert "of_states" not in ended.stdout


def test_what_cannot_be_asked_is_told_in_a_line() -> None:
    for words, said in (
        (["env=snake_8"], "env=snake_8: a game without place()"),
        (["nowhere", "elsewhere"], "elsewhere: a second policy, after nowhere"),
        (["nowhere"], "nowhere"),
    ):
        ended = CliRunner().invoke(app, ["lab", "policy", *words])
        assert (ended.exit_code, ended.stdout) == (2, "")
        assert ended.stderr.startswith("error: ") and said in ended.stderr


def test_a_run_s_best_checkpoint(finished_run: Path) -> None:
    """With its own game, prompt and sampling, and another number of episodes."""
    ended = CliRunner().invoke(app, ["lab", "policy", str(finished_run), "eval.episodes=10", "--json"])
    assert ended.exit_code == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["checkpoint"].startswith("checkpoints/")
    assert found["value"][0] <= found["value_if_invalid"] <= found["value"][1]
