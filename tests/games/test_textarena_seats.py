"""Games of TextArena with all their players, the real ones: turns, what each is told, what is paid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("textarena")

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.games.seats import MultiPlayerGame
from msgrpo_cli.rollout.game_check import CHECKS, _result, checks_of

KUHN = ["env.game=KuhnPoker-v0", "env.actions=[check,bet,call,fold]", "env.max_steps=20"]
WORDS = ["env.game=IteratedPrisonersDilemma-v0", "env.actions=null", "env.max_steps=20"]
WORDS += ["env.answer='{action}'", "algo.invalid_action=noop"]


def env_of(*overrides: str):  # type: ignore[no-untyped-def]
    return compose("train", ["env=textarena_seats", *overrides]).env


def game_of(*overrides: str) -> MultiPlayerGame:
    game = make_game(env_of(*overrides))
    assert isinstance(game, MultiPlayerGame)
    game.reset(seed=0)
    return game


def test_players_take_turns_on_one_board_and_the_winner_is_paid() -> None:
    game = game_of()
    assert "You are Player 0" in game.rules_for(0) and "You are Player 1" in game.rules_for(1)
    for number, cell in enumerate("03142"):
        assert game.to_move() == (number % 2,)
        rewards, ended, *_ = game.take_turn({number % 2: cell})
    assert (rewards, ended) == ((1.0, -1.0), True)
    assert (game.success_of(0), game.success_of(1)) == (True, False)
    assert "Player 1: [3]" in game.describe_to(0) and "Player 0: [0]" in game.describe_to(0)


def test_an_invalid_move_is_told_to_its_player_alone_and_the_second_loses() -> None:
    game = game_of()
    game.take_turn({0: "4"})
    rewards, ended, *_ = game.take_turn({1: "4"})
    assert (rewards, ended, game.to_move()) == ((0.0, 0.0), False, (1,))
    assert "invalid move" in game.describe_to(1) and "invalid move" not in game.describe_to(0)
    rewards, ended, *_ = game.take_turn({1: "4"})
    assert (rewards, ended) == ((1.0, -1.0), True)


def test_a_player_sees_its_own_card_for_as_long_as_it_is_to_remember_and_never_the_others() -> None:
    game, forgetful = game_of(*KUHN), game_of(*KUHN, "env.remember=false")
    first = game.to_move()[0]
    for one in (game, forgetful):
        one.take_turn({first: "check"})
        one.take_turn({1 - first: "bet"})
    cards = [re.findall(r"Your card is: '(.)'", game.describe_to(seat)) for seat in (0, 1)]
    assert [len(own) for own in cards] == [1, 1] and cards[0] != cards[1]
    assert "Your card is" not in forgetful.describe_to(first) and "bet" in forgetful.describe_to(first)


def test_free_text_is_told_to_the_other_as_it_was_said() -> None:
    game = game_of(*WORDS)
    assert game.actions is None and not game.lists_moves()
    game.reset(seed=0)
    game.take_turn({0: "what a day"})
    assert game.to_move() == (1,) and "Player 0: what a day" in game.describe_to(1)


@pytest.mark.parametrize("overrides", [[], KUHN, ["env.game=Nim-v0", "env.actions=[0 1,0 2,1 1,1 3,2 1,2 5]"]], ids=str)
def test_games_pass_the_checks(overrides: list[str]) -> None:
    env = env_of(*overrides)
    names = [name for name in checks_of(env) if name not in ("values", "speed", "repeats")]
    checks = [_result(name, {**CHECKS, **checks_of(env)}[name], env) for name in names]
    assert [(check.name, check.detail) for check in checks if not check.passed] == []


@pytest.mark.slow
def test_self_play_learns_from_what_both_seats_did(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from msgrpo_cli.runs.episodes import read_episodes
    from msgrpo_cli.training.train import train_job
    from support.small_qwen import small_qwen

    overrides = [
        "experiment=smoke",
        "env=textarena_seats",
        "model=any",
        f"model.path={small_qwen(tmp_path / 'qwen')}",
        "max_updates=1",
        "algo.groups_per_update=2",
        "algo.group_size=2",
        "eval.episodes=2",
        "rollout.max_prompt_tokens=2000",
    ]
    train_job(compose("train", overrides), tmp_path / "run", command=["test"], overrides=overrides)
    played = read_episodes(tmp_path / "run" / "episodes.jsonl")
    assert {step.seat for episode in played for step in episode.steps} == {0, 1}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("env.players=5", "env.game=TicTacToe-v0: cannot be started by 5 players: "),
        ("env.players=1", "players=1: a game of several players has at least 2 seats"),
        ("env.actions=[x,y]", "TicTacToe-v0 refuses every one of them, told as [{action}]"),
    ],
)
def test_what_cannot_be_played_is_refused(override: str, said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        env_of(override)
    assert said in str(refusal.value)
