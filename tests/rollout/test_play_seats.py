"""Playing games of several players: who is asked, whose reward is whose, and what an episode then holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from msgrpo_cli.episode import Completion, Episode, Start, pairs
from msgrpo_cli.games.guard import GameError
from msgrpo_cli.games.openspiel_seats import OpenSpielSeats
from msgrpo_cli.rollout.play import Decision, PlayRules, play_episodes
from msgrpo_cli.rollout.players import GreedyPlayer, RandomPlayer
from support.two_player_games import Cards, Hands


class Scripted:
    """Answers as the decision's key says; notes what it was asked."""

    def __init__(self, answer: Callable[[Decision], str | None]) -> None:
        self.answer, self.asked = answer, list[Decision]()

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        self.asked += decisions
        actions = [self.answer(one) for one in decisions]
        return [Completion(str(action), action) for action in actions]


def start(seed: int = 0, member: int = 0, seats: tuple[str, ...] = ()) -> Start:
    return Start(seed, 0, member, (7, member), seats)


def play(game: Callable[[], Any], answer: Callable[[Decision], str | None], **rules: Any) -> Episode:
    [episode] = play_episodes([start()], game, Scripted(answer), PlayRules(**rules))
    return episode


def test_seats_decide_in_turn_and_what_comes_later_belongs_to_the_last_decision() -> None:
    bets = iter(["pass", "bet", "bet"])
    policy = Scripted(lambda asked: next(bets))
    [episode] = play_episodes([start()], Cards, policy, PlayRules())
    assert [step.seat for step in episode.steps] == [0, 1, 0]
    assert [asked.key for asked in policy.asked] == [(7, 0, 0, 0), (7, 0, 1, 0), (7, 0, 0, 1)]
    gains = [step.reward for step in episode.steps]
    assert gains[0] == 0.0 and abs(gains[1]) == 2.0 and gains[2] == -gains[1], "the showdown pays both"
    assert [had.total_reward for had in episode.seats] == [gains[2], gains[1]]


def test_the_total_of_a_whole_episode_is_nobodys() -> None:
    episode = play(Cards, lambda asked: "pass")
    with pytest.raises(ValueError, match="a total reward for each seat, and none of its own"):
        _ = episode.total_reward
    assert episode.success is None


def test_pairs_have_their_own_steps_rewards_and_the_whole_initial_state() -> None:
    episode = play(Cards, lambda asked: "bet")
    first, second = pairs([episode])
    assert [step.seat for step in first.steps] == [0] and [step.seat for step in second.steps] == [1]
    assert first.total_reward == -second.total_reward != 0.0
    assert first.state_key == second.state_key == episode.steps[0].state_key != second.steps[0].state_key
    assert (first.seat, second.seat) == (0, 1)
    assert pairs([first]) == [first], "a pair is its own"


def test_a_whole_initial_state_may_be_nothing() -> None:
    """OpenSpiel's tic-tac-toe has no history before its first move; the other seat begins from that, too."""
    pytest.importorskip("pyspiel")
    episode = play(lambda: OpenSpielSeats("tic_tac_toe", 9), lambda asked: asked.game.legal()[0])
    assert episode.state_key == b""
    assert [pair.state_key for pair in pairs([episode])] == [b"", b""]


def test_only_seats_of_self_are_pairs_unless_all_are_asked_for() -> None:
    [episode] = play_episodes([start(seats=("random", "self"))], Hands, RandomPlayer(), PlayRules())
    assert [pair.seat for pair in pairs([episode])] == [1]
    assert [pair.seat for pair in pairs([episode], None)] == [0, 1]
    assert [pair.success for pair in pairs([episode], None)] == [had.success for had in episode.seats]


def test_a_seat_that_never_decides_has_no_pair_but_a_total() -> None:
    class Folding(Cards):  # type: ignore[valid-type, misc]
        def play_turn(self, actions: Any) -> Any:
            return (-3.0, 3.0), "folded"

    episode = play(Folding, lambda asked: "pass")
    assert [pair.seat for pair in pairs([episode])] == [0]
    assert [had.total_reward for had in episode.seats] == [-3.0, 3.0]


def test_rewards_before_the_first_decision_belong_to_it() -> None:
    class Ante(Cards):  # type: ignore[valid-type, misc]
        def play_turn(self, actions: Any) -> Any:
            rewards, ending = super().play_turn(actions)
            return ((0.25, -0.25), None) if ending is None else (rewards, ending)

    episode = play(Ante, lambda asked: "pass" if asked.game.player == 0 else "bet")  # type: ignore[attr-defined]
    assert episode.ended_by == "showdown" and [step.seat for step in episode.steps] == [0, 1, 0]
    assert episode.steps[0].reward == 0.25 + 0.25, "of the second turn, too, up to its next decision"
    assert episode.steps[1].reward == -0.25 - 0.25 + 1.0, "what came before its first decision, and all that follows"
    assert [had.total_reward for had in episode.seats] == [-0.5, 0.5]


def test_both_decide_at_once_without_seeing_the_other() -> None:
    policy = Scripted(lambda asked: "rock" if asked.game.player == 0 else "paper")  # type: ignore[attr-defined]
    [episode] = play_episodes([start()], Hands, policy, PlayRules())
    assert [asked.observation for asked in policy.asked[:2]] == ["shown: nothing"] * 2
    assert [step.state_key for step in episode.steps[:2]] == [episode.state_key] * 2
    assert [(had.total_reward, had.success) for had in episode.seats] == [(-2.0, False), (2.0, True)]


@pytest.mark.parametrize(
    ("invalid", "ended_by", "totals"),
    [("first", "over", [-1.0, 0.0]), ("noop", "step limit", [-1.0, 0.0]), ("end", "invalid", [-0.5, 0.0])],
)
def test_an_invalid_answer_costs_the_seat_that_gave_it(invalid: Any, ended_by: str, totals: list[float]) -> None:
    episode = play(
        Hands,
        lambda asked: None if asked.game.player == 0 else "rock",  # type: ignore[attr-defined]
        invalid_action=invalid,
        format_penalty=0.5,
    )
    assert episode.ended_by == ended_by
    assert [had.total_reward for had in episode.seats] == totals
    played = {step.action for step in episode.steps}
    assert played == ({"rock"} if invalid == "first" else {None}), "where one passes the turn is not played"


def test_an_episode_depends_on_its_key_alone() -> None:
    starts = [start(seed, member) for seed in range(5) for member in range(3)]
    of_each = [play_episodes(starts, Cards, RandomPlayer(), PlayRules(max_live_episodes=live)) for live in (2, 7, 64)]
    assert of_each[0] == of_each[1] == of_each[2]
    assert play_episodes(starts[4:5], Cards, RandomPlayer(), PlayRules()) == of_each[0][4:5]


def test_each_seat_remembers_its_own_past() -> None:
    policy = Scripted(lambda asked: "pass" if asked.game.player == 0 else "bet")  # type: ignore[attr-defined]
    play_episodes([start()], Cards, policy, PlayRules(history=2))
    assert [len(asked.history) for asked in policy.asked] == [0, 0, 1]
    assert policy.asked[2].history == ((policy.asked[0].observation, "pass"),)


def test_a_reference_player_answers_for_its_seat() -> None:
    [episode] = play_episodes([start(3)], Cards, GreedyPlayer(), PlayRules())
    for step in episode.steps:
        assert step.action == ("bet" if "card 2" in step.observation else "pass")


def test_who_sits_where_is_told_with_the_decision() -> None:
    policy = Scripted(lambda asked: "rock")
    play_episodes([start(seats=("greedy", "self"))], Hands, policy, PlayRules())
    assert [asked.player for asked in policy.asked] == ["greedy", "self"] * 2


def test_a_game_that_breaks_is_named() -> None:
    class Broken(Hands):  # type: ignore[valid-type, misc]
        def play_turn(self, actions: Any) -> Any:
            return (1.0,), None

    with pytest.raises(GameError, match=r"one for each of 2 seats, at turn 1 of the episode with seed 0"):
        play(Broken, lambda asked: "rock")


def test_a_policy_that_leaves_out_an_answer_is_blamed_itself() -> None:
    class Silent:
        def act(self, decisions: Sequence[Decision]) -> list[Completion]:
            return []

    with pytest.raises(ValueError, match="Silent gave 0 answers to 2 decisions"):
        play_episodes([start()], Hands, Silent(), PlayRules())


def test_a_pair_of_one_player_is_the_episode() -> None:
    episode = replace(play(Cards, lambda asked: "bet"), seats=())
    assert pairs([episode])[0] is episode
