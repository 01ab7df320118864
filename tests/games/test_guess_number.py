"""Guess a number: what the text holds is what the player knows."""

from __future__ import annotations

import pytest

from msgrpo_cli.games.guess_number import GuessNumber
from msgrpo_cli.rollout.players import ExactPlayer


def hiding(number: int, **keys: object) -> GuessNumber:
    game = GuessNumber(**keys)  # type: ignore[arg-type]
    game.reset(seed=0)
    game.number = number
    return game


def test_guesses_are_answered_and_the_number_wins() -> None:
    game = hiding(11)
    assert game.play("8") == (0.0, None)
    assert "Answers so far: 8 is too low." in game.describe()
    assert game.play("12") == (0.0, None)
    assert game.play("11") == (1.0, "found")
    assert game.success


def test_with_history_every_answer_is_told_and_without_the_last_alone() -> None:
    texts = []
    for history in (True, False):
        game = hiding(11, history=history)
        for guess in ("8", "12"):
            game.step(game.actions.index(guess))
        texts.append((game.describe(), game.describe("compact")))
    assert "8 is too low; 12 is too high." in texts[0][0] and texts[0][1] == "> 8 < 12 left 2"
    assert "Answers so far: 12 is too high." in texts[1][0] and texts[1][1] == "< 12 left 2"


def test_what_is_known_narrows_the_range() -> None:
    game = hiding(11)
    assert game.state() == (1, 16)
    game.play("8")
    game.play("14")
    assert game.state() == (9, 13)
    assert game.greedy_action() == "11"


def test_chances_of_a_guess_are_those_of_the_numbers_left() -> None:
    game = hiding(11)
    outcomes = game.transitions((9, 13), "10")
    assert outcomes == [(0.2, (9, 13), 1.0, True), (0.2, (9, 9), 0.0, False), (0.6, (11, 13), 0.0, False)]
    assert game.transitions((9, 13), "3") == [(1.0, (9, 13), 0.0, False)]


@pytest.mark.parametrize(("guesses", "best"), [(1, 1 / 16), (2, 3 / 16), (4, 15 / 16), (5, 1.0)])
def test_optimal_play_finds_as_many_numbers_as_a_tree_of_questions_has_nodes(guesses: int, best: float) -> None:
    game = hiding(11, max_steps=guesses)
    assert ExactPlayer().value(game) == pytest.approx(best)
