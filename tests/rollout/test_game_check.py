"""`msgrpo env check`: every shipped game passes, and each planted fault is named by the check that is there for it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from msgrpo_cli.cli.app import app
from msgrpo_cli.common.text import begin_alike
from msgrpo_cli.config.compose import compose, options_of
from msgrpo_cli.config.schema import EnvConfig
from msgrpo_cli.games.blackjack import Blackjack
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.planning import preview
from msgrpo_cli.rollout import game_check
from msgrpo_cli.rollout.game_check import CHECKS, _behind, _result, check_game, checks_of
from msgrpo_cli.rollout.visits import visits
from support.places import EXTRAS, ROOT

SEVERAL = ("openspiel_seats", "snakes", "textarena_seats")
"""Games of several players, which are asked other checks."""
QUICK = ("frozenlake", "snake_6x6", "guess_number", "blackjack")


def failures(game: str, names: Iterable[str] = CHECKS) -> dict[str, str]:
    """What fails for a planted game, and why; of all checks, or of some."""
    env = EnvConfig(name=game.lower(), id=f"support.planted_games:planted/{game}-v0", max_steps=8)
    checks = [_result(name, CHECKS[name], env) for name in names]
    return {check.name: check.detail for check in checks if not check.passed}


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """What a command says; it runs in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return lambda *arguments, text=None: CliRunner().invoke(app, arguments, input=text)


def msgrpo(*arguments: str, cwd: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    command = [sys.executable, "-m", "msgrpo_cli", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, cwd=cwd, timeout=900)


@pytest.mark.parametrize(
    ("name", "starts_with"),
    [
        ("frozenlake", ("Legend: P you", "")),
        ("snake_6x6", ("Legend: H your head", "")),
        ("sokoban", ("Legend: @ you", "Goals: ")),
        ("cliffwalking", ("The cliff: ", "You are at ")),
        ("taxi", ("Walls stand", "The destination is ")),
    ],
)
def test_full_texts_say_first_what_does_not_change_and_then_what_a_group_shares(
    name: str, starts_with: tuple[str, str]
) -> None:
    env = compose("train", [f"env={name}"]).env
    texts: dict[int, list[str]] = {}
    for visit, game in visits(env):
        texts.setdefault(visit.seed, []).append(game.describe())
    for_all, for_a_group = starts_with
    whole = [text for group in texts.values() for text in group]
    assert for_all in whole[0][: begin_alike(whole)]
    assert all(for_a_group in group[0][: begin_alike(group)] for group in texts.values())


def test_what_stands_behind_the_beginnings_of_texts() -> None:
    first, second = [["a", "b", "c"], ["a", "b", "d"]], [["a", "x"], ["a", "y", "z", "w"]]
    assert _behind([first]) == pytest.approx(1 / 3)
    assert _behind([[*first, *second]]) == pytest.approx(1 - 4 / 12)
    assert _behind([first, second]) == pytest.approx(1 - (4 + 2) / 12)
    detail = _result("beginnings", CHECKS["beginnings"], compose("train", ["env=frozenlake"]).env).detail
    assert re.fullmatch(r".*: full \d+% and \d+%, compact \d+% and \d+%", detail)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in options_of("env")]
)
def test_every_game_that_ships_passes_every_check(name: str) -> None:
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    env = compose("train", [f"env={name}"]).env
    checks, asked = check_game(env), list(checks_of(env))
    assert [check.name for check in checks] == asked and (asked == list(CHECKS)) == (name not in SEVERAL)
    assert [(check.name, check.detail) for check in checks if not check.passed] == []


@pytest.mark.parametrize(
    ("game", "check", "said"),
    [
        ("Unseeded", "repeats", "the same seeds give other episodes in a fresh process"),
        ("PerMember", "group starts", "members of a group start differently with seed"),
        ("Anywhere", "seeds differ", "^1 move leads from the start of seed .* say initial_states = 'connected'"),
        ("Ring", "seeds differ", r"leads? from the start of seed .* reads \(compact\) like that of seed"),
        ("Swapped", "physics", "goal|position|holes"),
        ("SlipperyInWords", "physics", "ice: the full text says slippery; it is not slippery"),
        ("Unreadable", "parser", "is read as None, not as 'Up'"),
        ("Generous", "rewards", "a reward of 2.5 .* outside 0 to 1"),
        ("Endless", "ends", "the episode with seed .* goes on after max_steps=8 steps"),
        ("Forgetful", "state key", "equal keys, unequal states"),
        ("Oblivious", "state key", r"equal keys, unequal states .*(rewards or ends|texts) differ after"),
        ("Hiding", "renderer", "texts each stand for several states; show what decides, or say in `hides`"),
    ],
)
def test_a_planted_fault_is_found(game: str, check: str, said: str) -> None:
    found = failures(game, [check])
    assert re.search(said, found[check]), found[check]


@pytest.mark.parametrize("swallowing", [False, True])
def test_a_game_that_never_returns_is_asked_once(swallowing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    env = compose("train", ["env=frozenlake"]).env
    monkeypatch.setattr(game_check, "_LONGEST", 0.2)

    def never(self: FrozenLake, action: str) -> tuple[float, str | None]:
        while True:
            try:
                time.sleep(0.01)
            except () if not swallowing else Exception:  # noqa: B030
                pass

    monkeypatch.setattr(FrozenLake, "play", never)
    monkeypatch.setattr(game_check, "CHECKS", {name: CHECKS[name] for name in ("rewards", "ends", "physics")})
    first, *others = game_check.check_game(env)
    assert "did not return within 0.2 s" in first.detail
    assert [check.detail for check in others] == ["not looked at: see rewards"] * 2


@pytest.mark.slow
def test_a_fault_is_not_blamed_on_what_is_well() -> None:
    here = [name for name in CHECKS if name not in ("values", "speed", "repeats")]  # two only tell, one needs processes
    assert failures("Swapped", here).keys() == {"physics"}
    assert failures("SlipperyInWords", here).keys() == {"physics"}
    assert failures("Generous", here).keys() == {"rewards"}
    assert failures("Hiding", here).keys() == {"renderer"}
    assert failures("HidingAndSaying") == {}


@pytest.mark.parametrize("env", ["taxi", "blackjack"])
def test_starts_that_lead_to_one_another_are_not_called_held_out(env: str, monkeypatch: pytest.MonkeyPatch) -> None:
    game = compose("train", [f"env={env}"]).env
    monkeypatch.setattr(Blackjack, "initial_states", property(lambda game: "many", lambda game, value: None), False)
    if env == "taxi":
        game = game.model_copy(update={"initial_states": "many"})
    assert "so that none counts as held out" in _result("seeds differ", CHECKS["seeds differ"], game).detail


def test_starts_held_out_by_what_play_never_changes_pass() -> None:
    assert failures("AnywhereByMap", ["seeds differ", "group starts"]) == {}


def test_coordinates_are_held_against_what_is_played() -> None:
    """A mirrored board whose facts are mirrored alike is found by moving on it."""
    assert "led from" in failures("Mirrored", ["physics"])["physics"]


def test_the_command_says_one_line_a_check_and_fails_where_one_fails(tmp_path: Path, said: Callable[..., Any]) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "liar.yaml").write_text(
        "name: liar\nid: planted_games:planted/SlipperyInWords-v0\nmax_steps: 8\n"
    )
    (tmp_path / "planted_games.py").write_text((ROOT / "tests/support/planted_games.py").read_text())
    liar = msgrpo("env", "check", "liar", "--config-dir", ".", "--json", cwd=tmp_path)
    assert liar.returncode == 1
    found = json.loads(liar.stdout)
    assert found["env"] == "liar" and found["passed"] is False
    assert [check["name"] for check in found["checks"]] == list(CHECKS)
    assert [check["name"] for check in found["checks"] if not check["passed"]] == ["physics"]
    well = said("env", "check", "guess_number")
    assert well.exit_code == 0
    assert sum(line.startswith("ok ") for line in well.stdout.splitlines()) == len(CHECKS)


@pytest.mark.parametrize("starts", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_the_list_names_every_game_with_its_scores(
    starts: int, said: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "_STARTS", starts)
    games = {game["name"]: game for game in json.loads(said("env", "list", "--json").stdout)}
    assert list(games) == [name for name in options_of("env") if name not in ("gym", "mix", *EXTRAS)]
    keys = {"name", "actions", "max_steps", "initial_states", "random_score", "optimal_score", "optimal_is_exact"}
    assert all(game.keys() == keys | ({"players"} if name in SEVERAL else set()) for name, game in games.items())
    assert games["frozenlake"]["optimal_score"] == 1.0 and games["frozenlake"]["optimal_is_exact"]
    assert games["snake_20"]["optimal_score"] > 4 and not games["snake_20"]["optimal_is_exact"]


def test_show_gives_the_prompt_that_the_model_reads(said: Callable[..., Any]) -> None:
    pytest.importorskip("torch")
    found = json.loads(said("env", "show", "frozenlake", "--json").stdout)
    [message] = found["messages"]
    assert message["role"] == "user" and message["content"].count("\n") == 3
    assert found["prompt"].startswith("<user>") and found["prompt"].endswith("<assistant>")
    assert (found["prompt_tokens"], found["unknown_tokens"]) == (22, 0)
    assert found["episode"] and found["ended_by"] in ("goal", "hole", "step limit")
    shown = said("env", "show", "snake_8", "prompt=think", "prompt.observation=full").stdout
    assert "of them stand for words that it does not know" in shown
    assert "Board: 10 by 10 cells." in shown


def test_a_person_plays_with_the_text_of_the_model_and_ends_on_the_ladder(tmp_path: Path) -> None:
    answers = "right\nnonsense\n<action>down</action>\n" + "le\nup\n" * 6
    done = msgrpo("play", "frozenlake", "env.size=3", "env.p=1.0", cwd=tmp_path, text=answers)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("P . .\n. . .\n. . G\n\n. P .\n")
    assert "'nonsense' is no action; choose from left, down, right, up" in done.stdout
    assert "ended by step limit" in done.stdout
    ladder = [line.split()[0] for line in done.stdout.splitlines()[-4:]]
    assert set(ladder) == {"you", "random,", "greedy,", "optimal"}


def test_a_person_may_leave(said: Callable[..., Any]) -> None:
    done = said("play", "frozenlake", text="")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "the game is left unfinished"


@pytest.mark.parametrize("command", [("env", "show"), ("env", "check"), ("play",)])
def test_a_game_that_does_not_exist_is_refused(said: Callable[..., Any], command: tuple[str, ...]) -> None:
    done = said(*command, "frozenlak")
    assert done.exit_code == 2
    assert "no 'frozenlak' in config group 'env'; did you mean 'env=frozenlake'?" in done.stderr
