"""What episodes say, and the evaluation record made from them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from msgrpo_cli.episode import Completion, Episode, Start, Step
from msgrpo_cli.evaluation.scores import Evaluation, evaluation, score
from msgrpo_cli.rollout.trained_prompts import Overlap

FIELDS = """
env policy checkpoint episodes distinct_initial_states distinct_initial_texts seeds split not_held_out
overlap_with_training overlap_of_decisions success_rate success_ci95 mean_total_reward mean_total_reward_ci95
normalized_score normalized_reason random_score base_score
optimal_score optimal_is_exact greedy_success_rate greedy_mean_total_reward game_metrics valid_action_rate mean_length
ends smallest_detectable_difference sampling training_sampling wall_seconds
overridden usage"""


def played(
    seed: int,
    rewards: list[float],
    success: bool | None,
    ended_by: str = "goal",
    invalid: int = 0,
    metrics: tuple[tuple[str, float], ...] = (),
) -> Episode:
    """An episode whose first `invalid` answers are no action; seeds 10 apart share their initial state."""
    steps = tuple(
        Step("", Completion("", None if t < invalid else "up"), "up", reward, f"{seed % 10}-{t}".encode())
        for t, reward in enumerate(rewards)
    )
    return Episode("lake", Start(seed, seed, 0, (0,)), steps, True, False, ended_by, success, metrics)


def four() -> list[Episode]:
    return [
        played(1, [0.0, 1.0], True, metrics=(("apples", 3.0),)),
        played(2, [0.0, 0.0, 0.0], False, "hole", invalid=2, metrics=(("apples", 1.0),)),
        played(11, [1.0], True),
        played(3, [0.0, 0.0], False, "step limit"),
    ]


def evaluated(**changes: Any) -> Evaluation:
    values: dict[str, Any] = {
        "env": "lake",
        "policy": "model",
        "checkpoint": "checkpoint-3",
        "episodes": four(),
        "greedy_episodes": [played(1, [1.0], True), played(2, [1.0], True), played(11, [1.0], True), four()[3]],
        "random_episodes": [played(seed, [0.1], False) for seed in (1, 2, 11, 3)],
        "optimal_score": 0.9,
        "optimal_is_exact": True,
        "seeds": (1, 3),
        "split": "test",
        "overlap": Overlap(0.0, 0.25),
        "sampling": {"temperature": 1.0},
        "training_sampling": None,
        "wall_seconds": 1.5,
    }
    return evaluation(**(values | changes))


def test_score() -> None:
    scores = score(four())
    assert scores.episodes == 4
    assert (scores.distinct_initial_states, scores.distinct_initial_texts) == (3, 1), "all of them read alike here"
    assert scores.success_rate == 0.5
    assert scores.mean_total_reward == 0.5
    assert scores.valid_action_rate == 0.75  # 6 of 8 steps, not the mean over episodes
    assert scores.mean_length == 2.0
    assert scores.ends == {"goal": 2, "hole": 1, "step limit": 1}
    assert list(scores.ends) == ["goal", "hole", "step limit"]
    assert scores.game_metrics == {"apples": 2.0}


def test_intervals_of_distinct_starts() -> None:
    scores = score([played(seed, [1.0], seed < 8) for seed in range(10)])
    assert scores.success_ci95 == pytest.approx((0.4902, 0.9433), abs=5e-5)


def test_total_rewards_are_a_share_only_where_they_are_successes() -> None:
    won = score([played(seed, [float(seed < 8)], seed < 8) for seed in range(10)])
    assert won.mean_total_reward_ci95 == pytest.approx((0.4902, 0.9433), abs=5e-5)
    apples = score([played(seed, [float(seed < 8)], None) for seed in range(10)])
    assert apples.mean_total_reward_ci95 != won.mean_total_reward_ci95
    assert score([played(1, [0.0], None)]).mean_total_reward_ci95 is None


def test_game_without_success() -> None:
    scores = score([played(1, [0.5], None), played(2, [1.5], None)])
    assert (scores.success_rate, scores.success_ci95) == (None, None)
    assert scores.mean_total_reward == 1.0


def test_nothing_played() -> None:
    with pytest.raises(ValueError, match="no episodes"):
        score([])


def test_fields_of_the_json_and_their_order() -> None:
    assert list(evaluated().to_json()) == FIELDS.split()


def test_evaluation_numbers() -> None:
    result = evaluated()
    assert (result.overlap_with_training, result.overlap_of_decisions) == (0.0, 0.25)
    unknown = evaluated(overlap=None)
    assert (unknown.overlap_with_training, unknown.overlap_of_decisions) == (None, None)
    assert result.random_score == pytest.approx(0.1)
    assert result.normalized_score == pytest.approx(0.5)  # (0.5 - 0.1) / (0.9 - 0.1)
    assert result.normalized_reason is None
    assert result.greedy_success_rate == 0.75
    assert result.greedy_mean_total_reward == 0.75
    assert result.base_score is None
    assert result.smallest_detectable_difference == pytest.approx(0.989949, abs=1e-6)  # 2.8 sqrt(2 / 4 / 4)


def test_known_optimal_score_stands_above_played_episodes() -> None:
    one = [played(1, [1.0], True)]
    assert evaluated(optimal_episodes=one).optimal_score == 0.9
    assert evaluated(optimal_episodes=one, optimal_score=None).optimal_score == 1.0


def test_unknown_optimal_play_leaves_no_normalized_score() -> None:
    result = evaluated(optimal_score=None)
    assert result.normalized_score is None
    assert result.normalized_reason == "the score of optimal play is unknown"


def test_base_on_the_same_starts_makes_pairs() -> None:
    base = [played(1, [0.0], False), played(2, [0.0], False), played(11, [0.0], True), played(3, [1.0], True)]
    result = evaluated(base_episodes=base)
    assert result.base_score == 0.25
    # successes 1 0 1 0 against 0 0 1 1: two pairs differ, and no test of two could find anything
    assert result.smallest_detectable_difference is None
    twice = evaluated(episodes=four() * 3, base_episodes=base * 3)
    # six of twelve differ, three each way: variance 6 / 11, standard error sqrt(6 / 132)
    assert twice.smallest_detectable_difference == pytest.approx(0.596962, abs=1e-6)


def test_other_starts_are_no_pairs() -> None:
    unpaired = pytest.approx(0.989949, abs=1e-6)
    base = [played(seed, [0.0], False) for seed in (1, 2, 11, 4)]
    assert evaluated(base_episodes=base).smallest_detectable_difference == unpaired
    assert evaluated(base_episodes=base[:3]).smallest_detectable_difference == unpaired


def test_difference_of_total_rewards_where_no_success_is_declared() -> None:
    episodes = [played(1, [0.0], None), played(2, [4.0], None)]
    # variance 4: 2.8 sqrt(2 * 4 / 2)
    assert evaluated(episodes=episodes).smallest_detectable_difference == pytest.approx(5.6)


def test_json_is_strict() -> None:
    sampling = {"min_p": float("nan"), "stop": ("a", 1)}
    result = replace(evaluated(), mean_total_reward=float("inf"), sampling=sampling).to_json()
    assert result["mean_total_reward"] is None
    assert result["sampling"] == {"min_p": None, "stop": ["a", 1]}
    assert result["seeds"] == [1, 3]
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_illegal_answers_are_told_of_games_that_limit_their_moves() -> None:
    assert "illegal_action_rate" not in evaluated().to_json()
    first, second, *others = four()
    steps = tuple(replace(step, illegal=t == 0) for t, step in enumerate(second.steps))
    told = evaluated(episodes=[first, replace(second, steps=steps), *others]).to_json()
    assert told["illegal_action_rate"] == pytest.approx(1 / 8)
    assert list(told) == [*FIELDS.split(), "illegal_action_rate"]
