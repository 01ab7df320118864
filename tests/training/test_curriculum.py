"""A key of the game that grows harder as the game is learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.schema import CurriculumConfig, stages
from msgrpo_cli.errors import UsageError
from msgrpo_cli.training.curriculum import Curriculum
from msgrpo_cli.training.train import train_job

SIZES = CurriculumConfig(key="env.size", values=[3, 4, 5], success=0.5, window=2)


def row(success: float | None) -> dict[str, Any]:
    return {"kind": "train", "success_rate": success}


def test_the_next_value_follows_once_the_mean_of_a_window_is_there() -> None:
    curriculum = Curriculum(SIZES)
    told = [curriculum.after_update(row(success)) for success in (0.9, 0.0, 1.0, 0.2, 0.8)]
    assert [text is not None for text in told] == [False, False, True, False, True]
    assert told[2] == "env.size=4 from the next update on: success 50.0 % over 2 updates"
    assert curriculum.value == 5


def test_a_window_never_reaches_into_the_stage_before() -> None:
    curriculum = Curriculum(SIZES)
    for _ in range(3):
        curriculum.after_update(row(1.0))
    assert curriculum.stage == 1


def test_the_last_value_stays() -> None:
    curriculum = Curriculum(SIZES)
    told = [curriculum.after_update(row(1.0)) for _ in range(10)]
    assert sum(text is not None for text in told) == 2 and curriculum.value == 5


def test_a_resumed_run_stands_where_the_uninterrupted_one_would() -> None:
    rows = [row(0.6), {"kind": "eval", "success_rate": 1.0}, row(0.6), row(1.0)]
    resumed, uninterrupted = Curriculum.of(SIZES, rows), Curriculum(SIZES)
    for one in rows:
        if one["kind"] == "train":
            uninterrupted.after_update(one)
    assert resumed == uninterrupted and resumed.stage == 1
    assert resumed.after_update(row(0.0)) == uninterrupted.after_update(row(0.0)) is not None


def test_without_a_curriculum_there_is_one_stage() -> None:
    env = compose("train", []).env
    assert stages(env, CurriculumConfig()) == [env]
    assert Curriculum(CurriculumConfig()).value is None


def test_a_run_plays_each_stage_and_goes_on_there_after_a_resume(tmp_path: Path) -> None:
    overrides = [
        "experiment=smoke", "curriculum.key=env.size", "curriculum.values=[4,3]", "curriculum.success=0.01",
        "curriculum.window=1", "eval.every=0", "max_updates=1",
    ]  # fmt: skip
    run = tmp_path / "run"
    train_job(compose("train", overrides), run, command=["msgrpo", "train"], overrides=overrides)
    longer = compose("train", [*overrides, "max_updates=2"])
    train_job(longer, run, command=["msgrpo", "train"], overrides=overrides, resume=run)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["curriculum_value"] for line in rows if line["kind"] == "train"] == [4, 3]
    lines = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    for update, size in ((1, 4), (2, 3)):
        boards = {line["steps"][0]["observation"] for line in lines if line["update"] == update}
        assert {board.count("\n") + 1 for board in boards} == {size}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["curriculum.key=env.size"], "key and values belong together"),
        (["curriculum.key=env.size", "curriculum.values=[]"], "key and values belong together"),
        (["curriculum.key=seed", "curriculum.values=[1]"], "key=seed: must be a key of the game"),
        (["curriculum.key=env.size", "curriculum.values=[3,99]"], "env.size=99: must be between 2 and 16"),
        (
            ["curriculum.key=env.max_steps", "curriculum.values=[8,-3]"],
            "curriculum.values: env.max_steps=-3: should be",
        ),
        (["curriculum.key=env.sise", "curriculum.values=[3]"], "env.sise: unknown key"),
    ],
)
def test_what_is_no_curriculum_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        compose("train", overrides)


@pytest.mark.parametrize("override", ["curriculum.key=env.size", "stop.success=0.5"])
def test_what_waits_for_successes_is_refused_where_there_are_none(override: str) -> None:
    with pytest.raises(UsageError, match=f"{override}: snake_8 declares no success"):
        compose("train", ["env=snake_8", override, *(["curriculum.values=[5,6]"] if "curriculum" in override else [])])


def test_success_of_a_mixture_is_waited_for_only_where_all_of_its_games_declare_it() -> None:
    compose("train", ["env=mix", "env.games=[frozenlake_slippery,frozenlake]", "stop.success=0.5"])
    with pytest.raises(UsageError, match=r"stop.success=0.5: one of the games declares no success"):
        compose("train", ["env=mix", "env.games=[snake_8,frozenlake]", "stop.success=0.5"])
