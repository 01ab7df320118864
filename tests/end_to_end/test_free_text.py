"""The game of free text of docs/games.md: trained, resumed, evaluated, replayed, checked, and played by a person.

And the legal moves that the page gives its corridor.
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from msgrpo_cli.cli.app import app
from msgrpo_cli.common.jsonl import read_lines
from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.schema import EnvConfig
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.rollout.examples import worked_turns
from msgrpo_cli.rollout.game_check import CHECKS, _result
from msgrpo_cli.rollout.players import RandomPlayer
from support.places import ROOT


def block(start: str) -> str:
    """The Python on the page about games that begins so."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/games.md").read_text(encoding="utf-8"), re.DOTALL)
    [found] = [text for text in blocks if text.startswith(start)]
    return str(found)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of games with the page's, with commands listed and without."""
    (tmp_path / "env").mkdir()
    (tmp_path / "rooms.py").write_text(block("# rooms.py"))
    for name, listed in (("rooms", "true"), ("bare", "false")):
        text = f"name: {name}\nid: rooms:me/Rooms-v0\nmax_steps: 8\nlisted: {listed}\n"
        (tmp_path / "env" / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def rooms(listed: bool = True) -> EnvConfig:
    return EnvConfig(name="rooms", id="rooms:me/Rooms-v0", max_steps=8, listed=listed)


WALK = ("dance", "take key", "go east", "take key", "open door with key")


@pytest.mark.usefixtures("folder")
def test_what_parse_accepts_is_played() -> None:
    game = make_game(rooms())
    game.reset(seed=next(seed for seed in range(9) if game.reset(seed=seed) and "A key" not in game.describe()))
    for command in WALK:
        said = game.parse(f"I say <action> {command.title()} </action>")
        assert said == command, "in lower case"
        *_, ended, _, info = game.step(said)
    assert (ended, info["ended_by"]) == (True, "garden")
    assert game.parse("take key") is None and game.parse("<action> </action>") is None


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("listed", [True, False])
def test_it_is_checked(listed: bool) -> None:
    """All by its listed commands; where it lists none, what must choose among some says so."""
    found = {name: _result(name, CHECKS[name], rooms(listed)) for name in CHECKS if name != "repeats"}
    failed = {name: check.detail for name, check in found.items() if not check.passed}
    if listed:
        assert failed == {}
        assert found["parser"].detail.startswith("free text: ")
        return
    assert {"state key", "legal moves", "ends", "gymnasium"} <= set(failed)
    said = "Rooms takes free text and legal() lists no move here, but a look at its moves must choose among some: "
    assert failed["legal moves"] == f"{said}let legal() return those that are known"


def test_it_trains_is_resumed_evaluated_and_replayed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    from msgrpo_cli.evaluation.evaluate import evaluate_subjects
    from msgrpo_cli.evaluation.targets import asked_for
    from msgrpo_cli.launch.run import go_on
    from msgrpo_cli.training.train import train_job

    small = ["algo.groups_per_update=2", "algo.group_size=4", "eval.episodes=6", "eval.every=0", "max_updates=1"]
    overrides = ["experiment=smoke", "env=rooms", *small]
    train_job(compose("train", overrides, [folder]), folder / "run", command=["test"], overrides=overrides)
    outcome = go_on(str(folder / "run"), ["max_updates=2"], [folder], ["test"], ["rooms"])
    assert outcome["updates"] == 2
    rows = list(read_lines(folder / "run" / "episodes.jsonl"))
    steps = [step for row in rows for step in row["steps"]]
    assert len(rows) == 16 and {row["update"] for row in rows} == {1, 2}
    said = {step["action"] for step in steps if step["valid"]}
    assert said & {"left", "down", "right", "up"}, "tiny says what it knows, and that is a command here"
    assert not any("illegal" in step for step in steps), "no command is illegal"
    [result] = evaluate_subjects(
        asked_for(str(folder / "run"), ["eval.episodes=6"], allow_modules=["rooms"]), as_json=True
    )
    assert result["random_score"] is not None and "illegal_action_rate" not in result
    done = CliRunner().invoke(app, ["replay", str(folder / "run"), "--update", "2"])
    assert done.exit_code == 0 and "You cannot " in done.stdout
    capsys.readouterr()


def test_without_a_list_it_is_evaluated_with_no_random_play_beside_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    from msgrpo_cli.evaluation.evaluate import evaluate_subjects
    from msgrpo_cli.evaluation.targets import asked_for
    from msgrpo_cli.training.train import train_job

    small = ["algo.groups_per_update=2", "algo.group_size=4", "eval.episodes=6", "eval.every=0", "max_updates=1"]
    overrides = ["experiment=smoke", "env=bare", "algo.invalid_action=noop", *small]
    train_job(compose("train", overrides, [folder]), folder / "run", command=["test"], overrides=overrides)
    [result] = evaluate_subjects(
        asked_for(str(folder / "run"), ["eval.episodes=6"], allow_modules=["rooms"]), as_json=True
    )
    assert (result["random_score"], result["normalized_score"]) == (None, None)
    with pytest.raises(UsageError, match="policy=random: bare takes free text and lists no moves to choose among"):
        evaluate_subjects(asked_for(None, [*overrides[1:3], "policy=random"], config_dirs=[folder]), as_json=True)
    capsys.readouterr()


@pytest.mark.parametrize("key", ["first", "random"])
def test_a_fallback_needs_a_list(folder: Path, key: str) -> None:
    compose("train", ["env=rooms", f"algo.invalid_action={key}"], [folder])
    with pytest.raises(
        UsageError, match=f"algo.invalid_action={key}: bare takes free text and lists no moves; give noop"
    ):
        compose("train", ["env=bare", f"algo.invalid_action={key}"], [folder])


@pytest.mark.usefixtures("folder")
def test_worked_turns_need_a_list() -> None:
    turns = worked_turns(lambda: make_game(rooms()), 4, RandomPlayer(), 0, "full")
    assert {action for _, action in turns} <= {"go east", "go west", "take key", "open door with key"}
    with pytest.raises(UsageError, match="random play must choose among some"):
        worked_turns(lambda: make_game(rooms(listed=False)), 4, RandomPlayer(), 0, "full")


def test_a_prompt_that_names_actions_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="so there are no actions to name; take prompt=legal"):
        compose("train", ["env=rooms", "prompt=think", "prompt.system='{{ actions }}'"], [folder])
    compose("train", ["env=rooms", "prompt=legal"], [folder])
    with pytest.raises(UsageError, match="the user text uses legal"):
        compose("train", ["env=rooms", "prompt=legal", "prompt.history=1"], [folder])


@pytest.mark.parametrize("name", ["rooms", "bare"])
def test_a_person_plays_it(folder: Path, name: str) -> None:
    answers = "dance\ntake key\ngo east\n<action>take key</action>\nopen door with key\n"
    given = ["play", name, "algo.invalid_action=noop", "--config-dir", str(folder)]
    done = CliRunner().invoke(app, given, input=answers)
    assert done.exit_code == 0, done.stderr
    assert "You cannot dance. You are in the cellar." in done.stdout
    assert "ended by garden" in done.stdout
    ladder = {line.split()[0].strip(",") for line in done.stdout.splitlines()[-2:]}
    assert ladder == ({"you", "random"} if name == "rooms" else {"player", "you"})
    assert CliRunner().invoke(app, given, input="quit\n").stdout.splitlines()[-1] == "the game is left unfinished"


def test_plan_list_and_show_know_it(folder: Path) -> None:
    pytest.importorskip("torch")
    from msgrpo_cli.planning.preview import described
    from msgrpo_cli.planning.workload import play_sample

    for name, random in (("rooms", True), ("bare", False)):
        config = compose("train", ["env=" + name, "algo.invalid_action=noop", "algo.group_size=4"], [folder])
        found = described(config.env)
        assert found["actions"] is None and (found["random_score"] is not None) is random
        assert play_sample(config, None, 8).episode_length > 1
    shown = CliRunner().invoke(app, ["env", "show", "rooms", "prompt=legal", "--config-dir", str(folder), "--json"])
    said: dict[str, Any] = json.loads(shown.stdout)
    assert re.search(r"Your moves now: go east(, take key)?\.", said["messages"][-1]["content"])
    given = ["env", "show", "bare", "prompt=legal", "algo.invalid_action=end", "--config-dir", str(folder)]
    assert "You are in the cellar." in CliRunner().invoke(app, given).stdout


def test_the_legal_moves_of_the_page_are_those_of_its_corridor() -> None:
    names: dict[str, Any] = {}
    exec(block("# corridor.py").replace("me/Corridor-v0", "me/DocumentedCorridor-v0"), names)
    moves = textwrap.indent(textwrap.dedent(block("    def legal(self):  # of")), "    ")
    exec(f"class Walled(Corridor):\n{moves}", names)
    game = names["Walled"]()
    game.reset(seed=0)
    assert game.limits_moves and game.legal() == ("right",)
    game.place = 1
    assert game.legal() == ("left", "right")
