"""`msgrpo env check` of legal moves: what keeps its promises passes, and each planted fault is named."""

from __future__ import annotations

import re

import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.schema import EnvConfig
from msgrpo_cli.rollout.game_check import CHECKS, _result
from msgrpo_cli.rollout.legal_checks import legal_lists


def planted(game: str) -> EnvConfig:
    return EnvConfig(name=game.lower(), id=f"support.planted_games:planted/{game}-v0", max_steps=8)


def test_a_game_that_keeps_its_promises_passes_and_is_never_asked_for_an_illegal_move() -> None:
    found = [_result(name, CHECKS[name], planted("Fenced")) for name in CHECKS if name != "repeats"]
    assert [(check.name, check.detail) for check in found if not check.passed] == []
    said = next(check.detail for check in found if check.name == "legal moves")
    assert re.fullmatch(r"\d\d% of the actions, in \d+ states; each of \d+ moves could be played", said)


@pytest.mark.parametrize(
    ("game", "said"),
    [
        ("Telling", r"legal\(\) tells what the (full|compact) text hides: .*; let it follow from what is shown"),
        ("Stuck", r"legal\(\) is empty in a state that asks for a move; end the game there, or leave one move"),
        ("Inventive", r"legal\(\) holds 'jump', which is none of actions="),
        ("Backwards", r"legal\(\) returned .*; each once, in the order of actions="),
        ("Trapdoor", r"a legal move cannot be played \(seed .*\): LookupError: the ice is gone"),
        ("Seldom", r"the legal move '16' cannot be played \(seed .* after 1 move\): LookupError: no such number"),
        ("TwoMinds", r"legal_in\(state\(\)\) is \('left', 'down', 'right', 'up'\) .*, legal\(\) "),
        ("Careless", r"greedy_action\(\) is 'left' \(seed .*\), which is no move of legal\(\)"),
        ("PerInstance", r"legal\(\) is .* \(seed .*\), and was .* in another game"),
    ],
)
def test_a_planted_fault_is_found(game: str, said: str) -> None:
    check = _result("legal moves", legal_lists, planted(game))
    assert not check.passed and re.search(said, check.detail), check.detail


def test_a_game_whose_actions_are_moves_of_every_state_says_so() -> None:
    env = compose("train", ["env=frozenlake"]).env
    assert legal_lists(env) == "every action is a move of every state"


@pytest.mark.parametrize(("name", "key"), [("taxi", "action_mask"), ("minesweeper", "legal_moves")])
def test_a_game_that_ships_limits_its_moves_where_it_is_asked_to(name: str, key: str) -> None:
    env = compose("train", [f"env={name}", f"env.{key}=true"]).env
    assert "of the actions, in" in legal_lists(env)
    check = _result("gymnasium", CHECKS["gymnasium"], env)
    assert check.passed, check.detail
