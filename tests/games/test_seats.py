"""Games of several players: what each seat sees, who moves, and what a game may not return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from msgrpo_cli.games.core import is_illegal, legal_moves
from msgrpo_cli.games.guard import BrokenPromise
from msgrpo_cli.games.registry import GameBlock, env_problems, play_problems
from msgrpo_cli.games.seats import MultiPlayerGame, checked_turn, utility_problem
from support.two_player_games import Cards, Hands


def test_each_seat_sees_its_own_card_and_moves_in_turn() -> None:
    game: Any = Cards()
    game.reset(seed=0)
    game.cards = (2, 0)
    assert [game.seen_by(player).describe() for player in (0, 1)] == ["card 2 bets none", "card 0 bets none"]
    assert game.movers() == (0,)
    assert game.seen_by(0).greedy_action() == "bet" and game.seen_by(1).greedy_action() == "pass"
    rewards, terminated, truncated, ended_by = game.take_turn({0: "bet"})
    assert (rewards, terminated, truncated, ended_by) == ((0.0, 0.0), False, False, None)
    assert game.movers() == (1,) and game.seen_by(1).elapsed == 1
    assert game.take_turn({1: "bet"}) == ((2.0, -2.0), True, False, "showdown")


def test_both_move_at_once_and_the_step_limit_ends_it() -> None:
    game: Any = Hands(rounds=9, max_steps=2)
    game.reset(seed=0)
    assert game.movers() == (0, 1)
    assert game.take_turn({0: "rock", 1: "scissors"}) == ((1.0, -1.0), False, False, None)
    assert game.seen_by(1).describe() == "shown: scissors against rock"
    assert game.take_turn({0: "rock", 1: "rock"}) == ((0.0, 0.0), False, True, "step limit")
    assert (game.seen_by(0).success, game.seen_by(1).success) == (True, False)


def test_a_view_is_a_game_of_one_player_to_whoever_answers() -> None:
    game: Any = Cards()
    game.reset(seed=1)
    view = game.seen_by(1)
    assert view.parse("<action>bet</action>") == "bet" and legal_moves(view, "a test") == ("pass", "bet")
    assert is_illegal(view, "bet") is None, "all actions are moves of all states"
    assert view.state_key() == game.information_key(1) != game.state_key()


def test_it_is_never_played_by_one_action() -> None:
    game: Any = Cards()
    game.reset(seed=0)
    for one in (game, game.seen_by(0)):
        with pytest.raises(BrokenPromise, match="2 players: it is played by play_turn"):
            one.take("bet")


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (1.0, "must return the rewards of all seats"),
        (((1.0,), None), "one for each of 2 seats"),
        ((1.0, None), "one for each of 2 seats"),
        (((1.0, float("nan")), None), "the reward is nan"),
        ((("much", 0.0), None), "is not a number"),
        (((0.0, 0.0), True), "must be a word"),
    ],
)
def test_what_a_turn_may_not_return(outcome: object, said: str) -> None:
    with pytest.raises(BrokenPromise, match=said):
        checked_turn(outcome, 2)


def test_rewards_may_be_an_array() -> None:
    assert checked_turn((np.array([1.0, -1.0]), "end"), 2) == ((1.0, -1.0), "end")


@pytest.mark.parametrize(
    ("utility", "rewards", "said"),
    [
        ("zero_sum", (1.0, -1.0), None),
        ("zero_sum", (1.0, 1.0), "sum to 2"),
        ("common", (0.5, 0.5), None),
        ("common", (0.5, -0.5), "differ"),
        ("general", (3.0, 1.0), None),
    ],
)
def test_how_rewards_are_tied(utility: Any, rewards: tuple[float, ...], said: str | None) -> None:
    found = utility_problem(utility, rewards)
    assert found is None if said is None else said in str(found)


@pytest.mark.parametrize(
    ("movers", "said"), [((), "at least one"), ((2,), "from 0 to 1"), ((1, 0), "ascending"), ([0], "a tuple of seats")]
)
def test_who_may_move(movers: Any, said: str) -> None:
    class Broken(Cards):  # type: ignore[valid-type, misc]
        def to_move(self) -> Any:
            return movers

    with pytest.raises(BrokenPromise, match=said):
        Broken().reset(seed=0)


def test_what_is_missing_or_wrong_is_told_before_anything_runs() -> None:
    import gymnasium

    class Unfinished(MultiPlayerGame):
        actions = ("stay",)

        def play_turn(self, actions: Mapping[int, str]) -> tuple[tuple[float, ...], str | None]:
            return (0.0, 0.0), None

    gymnasium.register("test/Unfinished-v0", entry_point=Unfinished)
    [line] = env_problems(GameBlock("unfinished", "test/Unfinished-v0", {"max_steps": 2}))
    assert "no to_move" in line and "no information_key" in line and "play_turn" not in line

    class Short(Cards):  # type: ignore[valid-type, misc]
        def play_turn(self, actions: Any) -> Any:
            return (0.0,), None

    gymnasium.register("test/Short-v0", entry_point=Short)
    [line] = play_problems(GameBlock("short", "test/Short-v0", {}), "full")
    assert "one for each of 2 seats" in line
    assert play_problems(GameBlock("cards", "test/Cards-v0", {}), "full") == []
    assert play_problems(GameBlock("hands", "test/Hands-v0", {}), "full") == []


def test_a_mixture_takes_games_of_one_player() -> None:
    blocks = [{"name": name, "id": f"test/{name.title()}-v0"} for name in ("cards", "hands")]
    from msgrpo_cli.games.mix import Mix

    with pytest.raises(ValueError, match=r"games=\['cards', 'hands'\]: cards has several players"):
        Mix(blocks)
