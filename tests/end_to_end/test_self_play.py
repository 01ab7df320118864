"""A user's game of two players, as docs/games.md shows it, trains by self-play, goes on exactly, and is scored."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from msgrpo_cli.cli.app import app
from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.episode import pairs
from msgrpo_cli.errors import UsageError
from msgrpo_cli.evaluation.evaluate import evaluate_subjects
from msgrpo_cli.evaluation.opponents import SeatedCheckpoint, seated_player
from msgrpo_cli.evaluation.targets import asked_for
from msgrpo_cli.rollout.collect import play_update
from msgrpo_cli.rollout.game_check import check_game
from msgrpo_cli.runs.episodes import read_episodes
from msgrpo_cli.training.pool import by_rank, members
from msgrpo_cli.training.train import train_job
from support.places import ROOT
from support.two_player_games import write_games

SMALL = [
    "experiment=smoke",
    "env=hiding",
    "max_updates=3",
    "algo.groups_per_update=2",
    "algo.group_size=4",
    "eval.episodes=6",
    "eval.every=1",
    "save.every=1",
    "selfplay.seats=[self,pool]",
    "selfplay.every=1",
    "selfplay.pool=2",
    "selfplay.choose=score",
]


@pytest.fixture(scope="module")
def games(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for --config-dir with the game of docs/games.md, cut out of the page."""
    folder = tmp_path_factory.mktemp("games")
    page = (ROOT / "docs" / "games.md").read_text(encoding="utf-8")
    blocks = dict.fromkeys(re.findall(r"```(?:python|yaml)\n(.*?)```", page, re.DOTALL))
    [module] = [block for block in blocks if block.startswith("# hiding.py")]
    [choice] = [block for block in blocks if "id: hiding:" in block]
    assert len(module.splitlines()) <= 45, "one file of about 40 lines"
    write_games(folder)
    (folder / "hiding.py").write_text(module)
    (folder / "env" / "hiding.yaml").write_text(choice)
    before = list(sys.path)
    yield folder
    sys.path[:] = before
    for name in ("hiding", "two_cards", "two_hands", "two_meeting"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def config(games: Path) -> RunConfig:
    return compose("train", SMALL, [games])


@pytest.fixture(scope="module")
def run(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "whole"
    train_job(config, path, command=["test"], overrides=SMALL)
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in row.items() if not key.startswith("perf/")} for row in lines]


def test_it_keeps_what_it_promises(config: RunConfig) -> None:
    assert [check for check in check_game(config.env) if not check.passed] == []


def test_self_play_leaves_rows_of_every_seat(run: Path) -> None:
    whole = read_episodes(run / "episodes.jsonl")
    assert len(whole) == 3 * 2 * 4 and all(len(episode.seats) == 2 for episode in whole)
    players = {had.player for episode in whole for had in episode.seats}
    assert players == {"self", "pool/update-0", "pool/update-1", "pool/update-2"}
    for episode in whole:
        assert [had.player for had in episode.seats].count("self") == 1
        [pair] = pairs([episode])
        assert pair.total_reward == episode.seats[pair.seat or 0].total_reward
    line = json.loads((run / "episodes.jsonl").read_text().splitlines()[0])
    own = next(had for had in line["seats"] if had["player"] == "self")
    other = next(had for had in line["seats"] if had["player"] != "self")
    assert own["advantage"] is not None and other["advantage"] is None
    assert line["total_reward"] == own["total_reward"] and {step["seat"] for step in line["steps"]} == {0, 1}
    trained = [row for row in rows(run) if row["kind"] == "train"]
    assert all(row["pairs_played"] == row["episodes_played"] == 8 for row in trained)
    assert {"total_reward/seat0", "total_reward/seat1"} <= trained[0].keys(), "the groups rotate"
    assert sorted(path.name for path in (run / "pool").iterdir()) == ["update-0", "update-1", "update-2"]


def test_evaluations_play_every_role_against_random_play(run: Path) -> None:
    scored = read_episodes(run / "eval" / "best.episodes.jsonl")
    assert [episode.start.seats for episode in scored] == [("self", "random"), ("random", "self")] * 3
    last = rows(run)[-1]
    assert {"seat0/total_reward", "seat1/total_reward"} <= last["game_metrics"].keys() and last["episodes"] == 6


def test_a_run_goes_on_exactly(run: Path, config: RunConfig, tmp_path: Path) -> None:
    path = tmp_path / "broken"

    def breaking(update: int, *arguments: Any, **more: Any) -> Any:
        if update == 3:
            raise RuntimeError("the light went out")
        return play_update(update, *arguments, **more)

    with pytest.raises(RuntimeError, match="the light went out"):
        train_job(config, path, command=["test"], overrides=SMALL, play=breaking)
    train_job(config, path, command=["test"], overrides=[], resume=path)
    assert rows(path) == rows(run)
    assert (path / "episodes.jsonl").read_bytes() == (run / "episodes.jsonl").read_bytes()
    weights = "checkpoints/checkpoint-3/model.safetensors"
    assert (path / weights).read_bytes() == (run / weights).read_bytes()


def test_two_checkpoints_play_each_other(run: Path, games: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = run / "checkpoints" / "checkpoint-3"
    seats = f"eval.seats=[self,'{other}']"
    asked = asked_for(str(other), ["eval.episodes=4", seats], config_dirs=[games], allow_modules=["hiding"])
    [result] = evaluate_subjects(asked, as_json=True)
    assert result["seats"] == ["self", str(other)] and result["episodes"] == 4
    capsys.readouterr()


def test_checkpoints_and_players_play_everybody(run: Path, games: Path) -> None:
    """In the game of the first checkpoint, each with its own prompt."""
    first, last = (str(run / "checkpoints" / f"checkpoint-{number}") for number in (1, 3))
    typed = ["lab", "crossplay", first, last, "random", "eval.episodes=3", "--json", f"--config-dir={games}"]
    done = CliRunner().invoke(app, [*typed, "--allow-module=hiding"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["env"] == "hiding" and len(found["pairs"]) == 3
    assert {one["player"] for one in found["ratings"]} == {first, last, "random"}
    assert all(sum(pair[count] for count in ("wins", "draws", "losses")) == 6 for pair in found["pairs"])


def test_two_seats_of_one_policy_learn_to_meet(games: Path, tmp_path: Path) -> None:
    overrides = [
        "experiment=smoke",
        "env=meeting",
        "max_updates=8",
        "algo.groups_per_update=4",
        "algo.group_size=16",
        "algo.invalid_action=noop",
        "algo.format_penalty=0.1",
        "eval.episodes=20",
        "eval.every=0",
        "eval.seats=[self,self]",
        "save.every=8",
    ]
    config = compose("train", overrides, [games])
    train_job(config, tmp_path / "run", command=["test"], overrides=overrides)
    trained = [row for row in rows(tmp_path / "run") if row["kind"] == "train"]
    assert trained[0]["total_reward"] < 0.0 and trained[-1]["total_reward"] > 1.0, "of 2"
    assert trained[-1]["total_reward/seat0"] == trained[-1]["total_reward/seat1"], "a common reward, no penalty left"
    assert trained[-1]["pairs_played"] == 2 * trained[-1]["episodes_played"] == 128
    _whom_it_was_scored_against_is_kept(tmp_path / "run", games, tmp_path)


def _whom_it_was_scored_against_is_kept(run: Path, games: Path, tmp_path: Path) -> None:
    def asked(target: Path, *overrides: str) -> list[str] | None:
        [(_, config)] = asked_for(str(target), overrides, config_dirs=[games], allow_modules=["two_meeting", "hiding"])
        return config.eval.seats

    assert asked(run) == asked(run, "env=hiding") == ["self", "self"]
    assert asked(run, "eval.seats=null") is asked(run, "env=frozenlake") is None
    assert asked(run, "eval.seats=[self,random]") == ["self", "random"]
    moved = tmp_path / "moved"
    shutil.copytree(run / "checkpoints" / "checkpoint-8", moved)
    said = json.loads((moved / "msgrpo.json").read_text())
    (moved / "msgrpo.json").write_text(json.dumps({**said, "seats": ["self", "/gone/checkpoint-1"]}))
    with pytest.raises(
        UsageError, match=r"/gone/checkpoint-1 is no checkpoint.*or play against others with eval.seats="
    ):
        asked(moved)
    [who] = {type(seated_player(str(moved)))}
    assert who is SeatedCheckpoint, "on a seat it is no matter whom it was scored against"


def test_commands_show_seats_or_refuse_them(games: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = f"--config-dir={games}"
    said = CliRunner().invoke(app, ["env", "show", "hiding", folder]).stdout
    assert "2 players; the prompt of player 0, who decides first" in said and "player 1 " in said
    played = CliRunner().invoke(app, ["play", "hiding", folder], input="left\nup\n").stdout
    assert "You are player 0 of 2." in played and "You are player 1" not in played
    assert "player 0, you: total reward" in played and "player 1, random: total reward" in played
    for command in (["lab", "credit"], ["bench", "rollout"]):
        refused = CliRunner().invoke(app, [*command, "env=hiding", folder])
        assert refused.exit_code == 2 and "env=hiding: has 2 players" in refused.output


def test_what_is_in_the_pool() -> None:
    assert members(1, 5, 3) == [0] and members(5, 5, 3) == [0] and members(6, 5, 3) == [0, 5]
    assert members(21, 5, 3) == [10, 15, 20]
    assert by_rank([0.5, -1.0, 0.5]) == [2.0, 1.0, 3.0], "of equal scores the later counts as higher"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["env=cards", "selfplay.seats=[self]"], "selfplay.seats=[self]: 1 seat, and cards has 2 players; such as"),
        (["env=cards", "selfplay.seats=[random,random]"], "self sits nowhere"),
        (["env=cards", "selfplay.seats=[self,search]"], "cards has no player search; take self, random, greedy or"),
        (["env=cards", "selfplay.seats=[self,nowhere]"], "nowhere is no checkpoint, and none of self, random"),
        (["env=cards", "eval.seats=[self,pool]"], "the pool changes in the course of a run"),
        (["env=cards", "selfplay.pool=2"], "selfplay.pool=2: changes nothing without a pool"),
        (["env=cards", "prompt.examples=2"], "prompt.examples=2: cards has 2 players"),
        (["env=cards", "engine=vllm_server", "selfplay.seats=[self,pool]"], "engine=vllm_server: plays with one set"),
        (
            ["env=cards", "selfplay.seats=[self,pool]", "selfplay.choose=score", "eval.every=20"],
            "selfplay.choose=score: the checkpoints of the pool must be scored",
        ),
        (["env=frozenlake", "selfplay.seats=[self,random]"], "frozenlake has one player, so there are no seats"),
        (["env=frozenlake", "eval.seats=[self,random]"], "frozenlake has one player, so there are no seats"),
        (["env=mix", "env.games=[cards,frozenlake]"], "cards has several players; a mixture takes games of one"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_loaded(games: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        compose("train", ["experiment=smoke", *overrides], [games])
    assert said in str(refused.value)


def test_a_run_on_a_seat_is_answered_with_its_last_checkpoint(games: Path, run: Path) -> None:
    with pytest.raises(UsageError, match="is a run, and a seat is played by one of its checkpoints; give ") as refused:
        compose("train", ["experiment=smoke", "env=hiding", f"selfplay.seats=[self,{run}]"], [games])
    assert str(refused.value).endswith(str(run / "checkpoints" / "checkpoint-3"))
