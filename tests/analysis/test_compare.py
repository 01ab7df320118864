"""Two runs on the same episodes: the test against numbers worked out by hand, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msgrpo_cli.analysis.compare import compare_runs, effect_of, sentence, sign_flip_p, warnings_on
from msgrpo_cli.cli.app import main
from msgrpo_cli.errors import UsageError
from support.run_copies import change_json, copy_of


@pytest.mark.parametrize(
    ("apart", "expected"),
    [
        ([1.0, 1.0, 1.0, 1.0, 1.0], 2 / 32),  # all of one sign: two of 2^5 flips are as far from 0
        ([1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0], 2 / 32),  # a zero says nothing
        ([1.0, -1.0], 1.0),
        ([2.0, -1.0, 0.0], 1.0),  # |1| and |3| of the four: all are at least 1
        ([3.0, 1.0, 1.0], 2 / 8),
        ([0.0], 1.0),
        ([], 1.0),
    ],
)
def test_sign_flips_by_hand(apart: list[float], expected: float) -> None:
    assert sign_flip_p(apart) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("pairs", "equal", "p_value", "told"),
    [
        (0, 3, 1.0, "in every episode both score alike."),
        (1, 0, 1.0, "1 of 1 episode differs, and even if all agreed, p could not be below 1: so few"),
        (2, 8, 0.5, "2 of 10 episodes differ, and even if all agreed, p could not be below 0.5: so few"),
        (3, 7, 0.25, "3 of 10 episodes differ, and even if all agreed, p could not be below 0.25: so few"),
        (5, 0, 0.0625, "5 of 5 episodes differ, and even if all agreed, p could not be below 0.062: so few"),
        (6, 1, 0.03125, None),
    ],
)
def test_the_fewest_pairs_have_an_exact_p_and_their_power_is_told(
    finished_run: Path, pairs: int, equal: int, p_value: float, told: str | None
) -> None:
    effect = effect_of("total reward", [0.0] * (pairs + equal), [1.0] * pairs + [0.0] * equal)
    assert effect.p_value == p_value
    said = sentence(replace(compare_runs(finished_run, finished_run), total_reward=effect))
    if told is None:
        assert said.startswith("B scores")
    else:
        assert said.startswith(f"No difference found in total reward (p = {p_value:.2g}); {told}")
        assert warnings_on(effect) == [], "it is told once"


def test_of_many_pairs_that_show_nothing_the_power_is_a_difference(finished_run: Path) -> None:
    effect = effect_of("total reward", [0.0] * 8, [1.0, -1.0] * 3 + [0.0, 0.0])
    said = sentence(replace(compare_runs(finished_run, finished_run), total_reward=effect))
    # differences of variance 6 / 7, 8 of them: 2.8 x sqrt(6 / 7 / 8) = 0.917
    assert (
        said == "No difference found in total reward (p = 1); 80 % of such comparisons would show one of 0.917 or more."
    )


def test_drawn_flips_are_near_the_normal_answer_and_repeat() -> None:
    totals = [1.0] * 60 + [-1.0] * 40  # z = 20 / 10 = 2; with the correction for steps of two 1.9: p = 0.057
    assert sign_flip_p(totals) == pytest.approx(0.057, abs=0.01)
    assert sign_flip_p(totals) == sign_flip_p(totals)


@pytest.mark.slow
def test_level_holds_where_starts_repeat() -> None:
    """Of players that are alike on the whole, but not on each start, about 5 % are told apart."""
    random, found = np.random.default_rng(0), 0
    of_start = np.array([1.0, -1.0, 0.5, -0.5, 0.0, 0.0])
    for _ in range(400):
        apart = of_start[random.integers(6, size=60)].tolist()
        found += effect_of("x", [0.0] * 60, apart).p_value < 0.05
    assert 0.02 <= found / 400 <= 0.08


def test_effect_by_hand() -> None:
    effect = effect_of("total reward", [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0])
    assert (effect.means, effect.effect) == ((0.5, 0.75), 0.25)
    assert (effect.first_better, effect.second_better, effect.equal) == (1, 2, 1)
    # +1 +1 -1: of the eight flips all are at least 1 from 0
    assert (effect.p_value, effect.verdict) == (1.0, "no difference found")


def with_rewards(run: Path, to: Path, change: Callable[[int, float], float], **config: Any) -> Path:
    copy = copy_of(run, to, config={key.replace("__", "."): value for key, value in config.items()})
    file = copy / "eval" / "best.episodes.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["total_reward"] = change(number, row["total_reward"])
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return copy


def test_a_run_and_itself(finished_run: Path) -> None:
    found = compare_runs(finished_run, finished_run)
    assert (found.total_reward.effect, found.total_reward.p_value, found.total_reward.ci95) == (0.0, 1.0, None)
    assert sentence(found).startswith("No difference found")
    assert found.differences == {}


def test_a_run_that_is_better_everywhere(finished_run: Path, tmp_path: Path) -> None:
    better = with_rewards(finished_run, tmp_path / "better", lambda n, reward: reward + 1 + n % 3, seed=5)
    found = compare_runs(finished_run, better)
    assert found.total_reward.verdict == "second is better"
    assert found.total_reward.effect == pytest.approx(2.0)
    assert found.differences == {"seed": ("0", "5")}
    assert sentence(found).startswith("B scores 2.000 more total reward")
    assert compare_runs(better, finished_run).total_reward.effect == pytest.approx(-2.0)
    assert found.success is not None
    assert found.success.effect == 0.0


def test_starts_are_states_and_not_seeds(finished_run: Path) -> None:
    rows = [json.loads(line) for line in (finished_run / "eval" / "best.episodes.jsonl").read_text().splitlines()]
    assert compare_runs(finished_run, finished_run).distinct_initial_states == len({row["state_key"] for row in rows})


def other_starts(run: Path, to: Path) -> Path:
    copy = copy_of(run, to, config={"eval.seed": 1}, final={"seeds": [10**9, 10**9 + 99]})
    return copy


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (other_starts, "eval.seed is 0 and 1"),
        (lambda run, to: copy_of(run, to, config={"env.name": "snake"}), "env is frozenlake and snake"),
        (lambda run, to: copy_of(run, to, config={"env.p": 0.9}), "env.p is 0.8 and 0.9"),
        (lambda run, to: copy_of(run, to, final={"split": "any"}), "eval.split: test and any"),
        (lambda run, to: copy_of(run, to, final={"random_score": 0.77}), "random play scores"),
        (lambda run, to: copy_of(run, to, final={"episodes": 25}), "eval.episodes: 24 and 25"),
        (lambda run, to: copy_of(run, to, record={"status": "interrupted"}), "interrupted: only runs that are done"),
    ],
)
def test_another_evaluation_is_refused(
    finished_run: Path, tmp_path: Path, change: Callable[[Path, Path], Path], expected: str
) -> None:
    with pytest.raises(UsageError) as problem:
        compare_runs(finished_run, change(finished_run, tmp_path / "other"))
    assert expected in str(problem.value)
    assert "\n" not in str(problem.value)


def test_what_msgrpo_eval_left_is_taken_where_the_final_ones_differ(finished_run: Path, tmp_path: Path) -> None:
    runs = [copy_of(finished_run, tmp_path / "one"), other_starts(finished_run, tmp_path / "two")]
    for run in runs:
        shutil.copy(finished_run / "eval" / "best.json", run / "eval" / "frozenlake-test-x.json")
        shutil.copy(finished_run / "eval" / "best.episodes.jsonl", run / "eval" / "frozenlake-test-x.episodes.jsonl")
    found = compare_runs(*runs)
    assert found.second.evaluation == "eval/frozenlake-test-x.json"
    file = runs[1] / "eval" / "frozenlake-test-x.json"
    said = json.loads(file.read_text())
    for change in (
        {"checkpoint": "checkpoints/checkpoint-1"},  # not the best
        {"sampling": {**said["sampling"], "temperature": 5.0}},
        {"overridden": {"prompt.observation": ["compact", "full"]}},
    ):
        change_json(file, **{**said, **change})
        with pytest.raises(UsageError, match=r"eval\.seed"):
            compare_runs(*runs)


def test_episodes_that_are_cut_are_refused(finished_run: Path, tmp_path: Path) -> None:
    other = copy_of(finished_run, tmp_path / "other")
    file = other / "eval" / "best.episodes.jsonl"
    file.write_text("\n".join(file.read_text().splitlines()[:5]) + "\n")
    with pytest.raises(UsageError, match="holds 5 of 24 episodes"):
        compare_runs(finished_run, other)


def test_command(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = with_rewards(finished_run, tmp_path / "other", lambda n, reward: reward - (n % 2))
    monkeypatch.setattr(sys, "argv", ["msgrpo", "compare", str(finished_run), str(other)])
    with pytest.raises(SystemExit) as end:
        main()
    out = capsys.readouterr().out
    assert (end.value.code or 0) == 0
    assert "A scores 0.500 more total reward" in out
    monkeypatch.setattr(sys, "argv", ["msgrpo", "compare", str(finished_run), str(other), "--json"])
    with pytest.raises(SystemExit):
        main()
    found = json.loads(capsys.readouterr().out)
    assert {"effect", "ci95", "p_value", "smallest_detectable_difference", "verdict", "success"} <= set(found)
    assert (found["effect"], found["first"]["run"]) == (-0.5, str(finished_run))


def test_a_run_is_not_compared_with_itself(
    finished_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["msgrpo", "compare", str(finished_run), f"{finished_run}/."])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and "the same run as" in capsys.readouterr().err
