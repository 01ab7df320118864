"""Blackjack: gymnasium's rules, and chances that add up to what is played."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.toy_text.blackjack import sum_hand, usable_ace

from msgrpo_cli.episode import Start
from msgrpo_cli.games.blackjack import Blackjack, _dealer, _outcomes, _sum_of, _with
from msgrpo_cli.rollout.play import PlayRules, play_episodes
from msgrpo_cli.rollout.players import ExactPlayer


def test_sums_are_those_of_gymnasium() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        cards = [int(card) for card in rng.integers(1, 11, size=rng.integers(1, 7))]
        assert _sum_of(cards) == (sum_hand(cards), bool(usable_ace(cards)))


def test_the_order_of_cards_makes_no_difference() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        cards = [int(card) for card in rng.integers(1, 11, size=5)]
        one_by_one: Any = (0, False)
        for card in cards:
            one_by_one = _with(one_by_one, card)
        assert one_by_one == _sum_of(cards)


def test_rewards_and_ends_are_those_of_gymnasium() -> None:
    game, theirs = Blackjack(), gymnasium.make("Blackjack-v1").unwrapped
    for seed in range(40):
        game.reset(seed=seed)
        theirs.reset(seed=0)
        theirs.player, theirs.dealer = list(game.cards), list(game._inner.unwrapped.dealer)
        game.np_random, theirs.np_random = np.random.default_rng(seed), np.random.default_rng(seed)
        for number in (1, 0):
            _, reward, terminated, *_ = game.step(number)
            _, expected, ended, *_ = theirs.step(number)
            assert (reward, terminated) == (expected, ended)
            if terminated:
                break


def test_chances_add_up() -> None:
    for shown in range(1, 11):
        assert sum(chance for _, chance in _dealer(_with((0, False), shown))) == pytest.approx(1.0)
        for total in range(4, 22):
            assert sum(_outcomes(total, shown).values()) == pytest.approx(1.0)
    game = Blackjack()
    for action in game.actions:
        assert sum(chance for chance, *_ in game.transitions((15, 6, False), action)) == pytest.approx(1.0)


def test_known_chances_of_sticking() -> None:
    """With 20 against a dealer's ten, drawn with replacement, and a soft hand that cannot be lost by one more card."""
    assert _outcomes(20, 10)[1.0] - _outcomes(20, 10)[-1.0] == pytest.approx(0.4350, abs=5e-4)
    assert all(reward == 0.0 for _, _, reward, _ in Blackjack().transitions((16, 9, True), "hit"))


def test_optimal_play_earns_what_its_values_say() -> None:
    game, player = Blackjack(), ExactPlayer()
    starts = [Start(seed, seed, 0, ("blackjack", seed)) for seed in range(3000)]
    values = []
    for start in starts:
        game.reset(seed=start.seed)
        values.append(player.value(game) or 0.0)
    episodes = play_episodes(starts, Blackjack, player, PlayRules("blackjack"))
    difference = np.array([episode.total_reward for episode in episodes]) - values
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(len(starts))
    assert -0.06 < np.mean(values) < -0.03  # the game favours the dealer
