"""What a policy is worth by its answers' probabilities: what sampling finds, and bounds where little is known."""

from __future__ import annotations

import json
from typing import Any

import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.evaluation.exact_policy import check, measure_policies
from msgrpo_cli.evaluation.targets import Subject

LAKES = ["env=frozenlake", "eval.episodes=60", "trainer.use_cpu=true"]


def measured(*overrides: str) -> dict[str, Any]:
    [found] = measure_policies([(Subject(), compose("eval", [*LAKES, *overrides]))])
    json.dumps(found, allow_nan=False)
    return found


@pytest.fixture(scope="module")
def tiny() -> dict[str, Any]:
    return measured()


def test_of_tiny_nearly_all_is_covered_and_the_sample_agrees(tiny: dict[str, Any]) -> None:
    low, high = tiny["value"]
    assert 0 < high - low < 0.02
    assert low <= tiny["value_if_invalid"] <= high
    first, last = tiny["sampled"]["mean_total_reward_ci95"]
    assert first < low and high < last
    assert tiny["random"] < low < high < tiny["optimal"] == 1.0
    assert 0 < tiny["uncovered"]["mean"] <= tiny["uncovered"]["worst"] < 0.1


def test_every_state_tells_the_probability_of_every_move(tiny: dict[str, Any]) -> None:
    states = tiny["of_states"]
    assert len(states) == tiny["states"], "on a lake every state has a text of its own, whatever the time"
    for one in states:
        assert list(one["actions"]) == ["left", "down", "right", "up"]
        assert sum(one["actions"].values()) + one["invalid"] + one["uncovered"] == pytest.approx(1.0, abs=1e-9)
    assert states[0]["visits"] == max(one["visits"] for one in states)
    steps = sum(one["visits"] for one in states)
    assert 3.0 < steps < 8.0, "decisions of an episode"


def test_random_weights_say_no_bare_action_and_the_bounds_are_wide() -> None:
    found = measured("model.init=random", "eval.episodes=20")
    low, high = found["value"]
    assert found["uncovered"]["mean"] > 0.9
    assert low < 0.01 and high > 0.9
    assert low - 1e-9 <= found["sampled"]["mean_total_reward"] <= high
    first, last = found["sampled"]["mean_total_reward_ci95"]
    assert first <= found["value_if_invalid"] <= last


@pytest.mark.parametrize("law", ["eval.temperature=0.5", "eval.temperature=0"])
def test_at_another_temperature(law: str, tiny: dict[str, Any]) -> None:
    found = measured(law)
    first, last = found["sampled"]["mean_total_reward_ci95"]
    assert first <= found["value"][0] <= found["value"][1] <= last
    assert found["value"][0] != pytest.approx(tiny["value"][0], abs=1e-3)
    if law.endswith("=0"):  # play is certain then
        assert found["value"][0] == pytest.approx(found["sampled"]["mean_total_reward"])


def test_a_prefix_belongs_to_the_answer(tiny: dict[str, Any]) -> None:
    """`tiny` is all but sure of the tag, so to be given it changes little."""
    found = measured("prompt.answer_prefix=<action>")
    assert found["value"][0] == pytest.approx(tiny["value"][0], abs=0.02)
    assert found["uncovered"]["mean"] < 0.02


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["env=snake_8"], r"env=snake_8: a game without place\(\)"),
        (["env=mix", "env.games=[frozenlake,frozenlake_slippery]"], "env=mix: a game without"),
        (["prompt.history=2", "rollout.max_prompt_tokens=200"], "prompt.history=2: .*prompt.history=0"),
        (["policy=random"], "policy=random: only a model's answers"),
        (
            ["rollout.repetition_penalty=1.2", "rollout.allow_truncated_sampling=true"],
            r"rollout\.repetition_penalty=1\.2",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused_before_anything_is_loaded(overrides: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check(compose("eval", overrides))
