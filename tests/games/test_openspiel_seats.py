"""OpenSpiel's games with all their seats: played as OpenSpiel plays them, checked, and trained by self-play."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyspiel")

from msgrpo_cli.config.compose import compose
from msgrpo_cli.episode import Start, pairs
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.guard import checked_legal
from msgrpo_cli.games.openspiel_seats import OpenSpielSeats
from msgrpo_cli.games.registry import GameBlock
from msgrpo_cli.launch.run import sound
from msgrpo_cli.rollout.game_check import _result, checks_of
from msgrpo_cli.rollout.play import PlayRules, play_episodes
from msgrpo_cli.rollout.players import RandomPlayer
from msgrpo_cli.training.train import train_job
from support.small_qwen import small_qwen


def test_random_play_of_kuhn_poker_wins_an_eighth_for_the_first() -> None:
    starts = [Start(number, number, 0, (0, number)) for number in range(2000)]
    played = play_episodes(starts, lambda: OpenSpielSeats("kuhn_poker", 6), RandomPlayer(), PlayRules())
    rewards = np.array([[had.total_reward for had in episode.seats] for episode in played])
    assert (rewards.sum(axis=1) == 0).all()
    assert rewards[:, 0].mean() == pytest.approx(0.125, abs=4 * rewards[:, 0].std() / 2000**0.5)
    assert {pair.seat for pair in pairs(played)} == {0, 1}


@pytest.mark.parametrize(
    ("game", "steps", "arguments", "utility"),
    [
        ("leduc_poker", 12, None, "zero_sum"),
        ("tic_tac_toe", 9, None, "zero_sum"),
        ("matrix_pd", 1, None, "general"),
        ("goofspiel", 13, {"num_cards": 4}, "zero_sum"),
        ("kuhn_poker", 9, {"players": 3}, "zero_sum"),
        ("tiny_hanabi", 4, None, "common"),
    ],
)
def test_games_of_many_kinds_pass_the_checks(game: str, steps: int, arguments: Any, utility: str) -> None:
    made = OpenSpielSeats(game, steps, arguments)
    assert made.utility == utility
    keys = {"game": game, "max_steps": steps, "arguments": arguments}
    env = GameBlock("openspiel_seats", "msgrpo/OpenSpielSeats-v0", keys)
    for name, check in checks_of(env).items():
        if name not in ("repeats", "speed", "values"):  # two further processes, a clock, hundreds of episodes
            result = _result(name, check, env)
            assert result.passed, (name, result)


@pytest.mark.parametrize("game", ["checkers", "chess"])
def test_seats_that_share_some_words_have_them_in_one_order(game: str) -> None:
    """What one seat calls first another may call last; legal moves stand as in the list of all."""
    made, rng = OpenSpielSeats(game, 40), np.random.default_rng(0)
    made.reset(seed=0)
    assert len(set(made.actions)) == len(made.actions)
    for _ in range(40):
        [seat] = made.movers()
        moves = checked_legal(made.legal_for(seat), made.actions)
        _, ended, cut, _ = made.take_turn({seat: str(rng.choice(moves))})
        if ended or cut:
            break


def test_what_has_no_seats_is_refused() -> None:
    with pytest.raises(UsageError, match="game=catch: has one seat"):
        compose("eval", ["env=openspiel_seats", "env.game=catch"])


def test_it_trains_by_self_play_against_a_pool(tmp_path: Path) -> None:
    small_qwen(tmp_path / "model")
    overrides = [
        *(
            "env=openspiel_seats",
            "model=any",
            f"model.path={tmp_path / 'model'}",
            "prompt=action_only",
            "max_updates=2",
        ),
        *("rollout=short", "rollout.max_new_tokens=4", "rollout.max_prompt_tokens=500", "eval.episodes=4", "seed=0"),
        *("selfplay.seats=[self,pool]", "selfplay.every=1", "algo.groups_per_update=2", "algo.group_size=4"),
        *("algo.invalid_action=random", "trainer.use_cpu=true", "eval.every=0", "prompt.observation=compact"),
    ]
    outcome = train_job(compose("train", overrides), tmp_path / "run", command=["test"], overrides=overrides)
    assert outcome["status"] == "done" and outcome["updates"] == 2
    assert {path.name for path in (tmp_path / "run" / "pool").iterdir()} == {"update-0", "update-1"}


def test_a_step_limit_that_cuts_games_before_they_pay_is_told_before_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    sound(["experiment=selfplay_kuhn"], [])
    assert capsys.readouterr().err == ""
    sound(["experiment=selfplay_tictactoe", "env.max_steps=8"], [])
    assert "env.max_steps=8: games of up to 9 steps are cut there" in capsys.readouterr().err
