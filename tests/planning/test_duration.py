"""Seconds from operations and bytes: numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from msgrpo_cli.planning.architecture import Architecture
from msgrpo_cli.planning.duration import EFFICIENCIES, TimeQuestion, forward_operations, time_plan
from msgrpo_cli.planning.hardware import Hardware
from msgrpo_cli.planning.workload import Batch, ExpectedPlay

SHAPE = Architecture(2, 8, 20, 2, 1, 4, 100, True, 2_000)
PLAY = ExpectedPlay(
    decisions=100, decisions_at_most=160, rows=50, rows_at_most=80, episode_length=5.0, prompt_tokens=30,
    longest_prompt=40, measured=True, answer_tokens=10, expected_answer=10, actions_alone=False, distinct_share=0.5,
    read_share=0.5,
    micro=(Batch(2, 4, 40, 78), Batch(1, 4, 30, 29)), distinct_rows=1.0, micro_batches=13, single=False,
)  # fmt: skip
ASKED = TimeQuestion(
    shape=SHAPE,
    hardware=Hardware("device", "cpu", 10**9, 1e9, None, 1e9),
    half=False,
    weight_bytes=4,
    adapter=False,
    checkpointing=False,
    shared=True,
    reference=False,
    play=PLAY,
    live=20,
    passes=1,
    rounds=8,
    evaluation_episodes=30,
    evaluations=4,
    updates=10,
)


def test_a_forward_pass_by_hand() -> None:
    # a product of matrices takes two operations for each weight; scores and values two each for every entry
    assert forward_operations(SHAPE, 3, 7) == 3 * (2 * (2_000 - 800) + 4 * 2 * 8 * 7)


def test_training_by_hand() -> None:
    tokens = 50 * (78 + 29) / 8 + 50 * 10  # so many tokens of prompts for eight answers
    layers = tokens * (2 * 1_200 + 4 * 2 * 8 * 20) * 3
    head = 50 * 10 * 2 * 800 * 4
    plan = time_plan(ASKED)
    real = EFFICIENCIES["cpu"]
    fixed = 13 * 2 * real.layer * 3 + 50 * real.row
    assert plan.training == pytest.approx((layers + head) / (1e9 * 8 / 72 * real.training) + fixed)


def test_the_run_is_its_updates_and_evaluations() -> None:
    plan = time_plan(ASKED)
    assert plan.hours * 3600 == pytest.approx(10 * plan.update + 4 * plan.evaluation)
    assert plan.update == plan.rollout + plan.training


def test_the_longest_share_counts() -> None:
    whole = time_plan(replace(ASKED, groups=5))
    two = time_plan(replace(ASKED, groups=5, processes=2))
    real = EFFICIENCIES["cpu"]
    fixed = 13 * 2 * real.layer * 3
    assert two.training - fixed == pytest.approx((whole.training - fixed) / 2)  # 25 of 50 rows
    assert whole.rollout / 2 < two.rollout < whole.rollout  # three of five groups
    games = 2 * 30 * 5 * real.game  # nobody shares the reference players' work
    assert (whole.evaluation - games) / 2 <= two.evaluation - games < whole.evaluation - games
    assert time_plan(replace(ASKED, groups=1, processes=2)).rollout == whole.rollout  # nobody helps with one group


def test_whatever_costs_more_takes_longer() -> None:
    plan = time_plan(ASKED)
    for more in ({"checkpointing": True}, {"passes": 2}, {"reference": True}, {"shared": False}):
        assert time_plan(replace(ASKED, **more)).training >= plan.training
    assert time_plan(replace(ASKED, adapter=True)).training < plan.training
    longer = replace(ASKED, play=replace(PLAY, prompt_tokens=300.0))
    assert time_plan(longer).update > plan.update
    fast = replace(ASKED, hardware=replace(ASKED.hardware, full=1e12, bandwidth=1e12))
    assert time_plan(fast).update < plan.update
