"""A seat of OpenSpiel's games against random others: Kuhn poker by hand, legal moves, groups, and what is refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from msgrpo_cli.common.seeding import generator
from msgrpo_cli.config.compose import compose
from msgrpo_cli.episode import Start
from msgrpo_cli.errors import UsageError
from msgrpo_cli.rollout.play import PlayRules, play_episodes
from msgrpo_cli.rollout.players import RandomPlayer

pytest.importorskip("pyspiel")
from msgrpo_cli.games.openspiel import OpenSpielGame


def test_kuhn_poker_reads_well() -> None:
    game = OpenSpielGame("kuhn_poker", max_steps=3)
    game.reset(seed=0)
    assert game.actions == game.legal() == ("pass", "bet")
    assert game.describe().startswith("Your card is ")
    assert game.describe().endswith("Moves so far, from player 0 on: none.\nYour moves: pass, bet.")
    assert game.describe("compact") in ("0", "1", "2")
    assert "Kuhn Poker" in game.rules() and "between -2 and 2" in game.rules() and "1 other player" in game.rules()


def test_the_deal_is_the_start_and_the_other_seat_is_noise() -> None:
    """Members of a group share their cards; what the other seat does is drawn for each."""
    keys, ends = set(), Counter[tuple[float, ...]]()
    for member in range(40):
        game = OpenSpielGame("kuhn_poker", max_steps=3)
        game.reset(seed=5)
        game.np_random = generator((0, member))
        keys.add(game.state_key())
        _, reward, ended, _, info = game.take("bet")
        assert ended and info["ended_by"] == "end"
        ends[(reward,)] += 1
    assert len(keys) == 1 and len(ends) == 2, "the other passes, or calls"


@pytest.mark.parametrize(("seat", "wanted"), [(0, 0.125), (1, -0.125)])
def test_random_play_of_kuhn_poker_wins_an_eighth(seat: int, wanted: float) -> None:
    starts = [Start(number, number, 0, (0, number)) for number in range(3000)]
    episodes = play_episodes(
        starts, lambda: OpenSpielGame("kuhn_poker", max_steps=3, seat=seat), RandomPlayer(), PlayRules()
    )
    won = np.array([episode.total_reward for episode in episodes])
    assert won.mean() == pytest.approx(wanted, abs=4 * won.std() / 3000**0.5)
    assert {episode.ended_by for episode in episodes} == {"end"}


@pytest.mark.parametrize(
    ("name", "steps", "arguments"),
    [
        ("leduc_poker", 8, None),
        ("tic_tac_toe", 5, None),
        ("connect_four", 21, None),
        ("kuhn_poker", 3, {"players": 3}),
        ("goofspiel", 13, {"num_cards": 4}),
        ("backgammon", 20, None),
        ("pig", 30, None),
    ],
)
def test_games_of_many_kinds_are_played_by_every_seat(name: str, steps: int, arguments: Any) -> None:
    for seat in range(2):
        game = OpenSpielGame(name, max_steps=steps, seat=seat, arguments=arguments)
        assert len(set(game.actions)) == len(game.actions)
        for seed in range(5):
            game.reset(seed=seed)
            rng, ended = generator((seed,)), False
            while not ended:
                moves = game.legal()
                assert moves and set(moves) <= set(game.actions)
                assert all(game.parse(f"<action>{move}</action>") == move for move in moves)
                assert game.describe() and game.describe("compact")
                _, reward, terminated, truncated, _ = game.take(moves[int(rng.integers(len(moves)))])
                assert game.reward_range[0] <= reward <= game.reward_range[1]
                ended = terminated or truncated


def test_words_are_openspiel_s_where_they_stand_for_one_action() -> None:
    assert OpenSpielGame("connect_four", 21, seat=1).actions == tuple(f"o{column}" for column in range(7))
    backgammon = OpenSpielGame("backgammon", 20)
    backgammon.reset(seed=1)
    assert backgammon.legal()[0] in backgammon.describe()


def test_leduc_poker_tells_the_betting_in_words() -> None:
    game = OpenSpielGame("leduc_poker", 8)
    game.reset(seed=0)
    assert "Your card: " in game.describe() and "Moves of round 1: none" in game.describe()
    assert "Observer" not in game.describe()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["env.game=kuhn_pocker"],
            "env.game=kuhn_pocker: OpenSpiel has no game of that name; did you mean 'kuhn_poker'",
        ),
        (["env.seat=2"], "env.seat=2: kuhn_poker has the seats 0 to 1"),
        (["env.arguments={player: 3}"], r"env.arguments={'player': 3}: kuhn_poker has no parameter player; did you"),
        (["env.arguments={players: 99}"], r"env.arguments={'players': 99}: kuhn_poker cannot be made"),
        (["env.game=mfg_garnet"], "env.game=mfg_garnet: a mean-field game"),
    ],
)
def test_bad_keys_are_told(overrides: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        compose("train", ["env=openspiel", *overrides])
