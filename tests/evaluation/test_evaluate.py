"""`msgrpo eval` on a real run: the same numbers again, the ladder, references, exact values, refusals."""

from __future__ import annotations

import json
import shutil
from math import sqrt
from pathlib import Path
from typing import Any

import pytest

from msgrpo_cli.errors import UsageError
from msgrpo_cli.evaluation.evaluate import evaluate_subjects
from msgrpo_cli.evaluation.targets import asked_for
from msgrpo_cli.runs.pretrained import local_path

PLAYED = 1500


def evaluated(target: str | None, *overrides: str, **more: Any) -> list[dict[str, Any]]:
    return evaluate_subjects(asked_for(target, list(overrides), **more), as_json=True)


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(finished_run, copy)
    return copy


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(first[key] == second[key] for key in first if key not in ("wall_seconds", "base_score"))


def test_the_same_checkpoint_gives_the_same_numbers_alone_and_in_training(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [alone] = evaluated(str(run), "eval.episodes=24")
    assert same(alone, json.loads((run / "eval" / "best.json").read_text()))
    assert json.loads(capsys.readouterr().out) == alone
    name = alone["checkpoint"]
    update = int(name.rpartition("-")[2])
    [validation] = evaluated(str(run / name), "eval.episodes=24", "eval.split=validation")
    during = run / "eval" / f"validation-{update}.json"
    if during.exists():
        assert validation["success_rate"] == json.loads(during.read_text())["success_rate"]
        assert validation["greedy_success_rate"] == json.loads(during.read_text())["greedy_success_rate"]
    assert alone["seeds"] != validation["seeds"] and alone["overlap_with_training"] == 0.0
    stored = list((run / "eval").glob("frozenlake-*.json"))
    assert len(stored) == 2, "every eval of a run is stored in its eval/"


def test_the_table_shows_the_ladder(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate_subjects(asked_for(str(run), ["eval.episodes=24"]), as_json=False)
    shown = capsys.readouterr().out
    places = [shown.index(word) for word in ("random", "base", "checkpoint-", "optimal")]
    assert places == sorted(places)
    assert "greedily" in shown


def test_the_base_reads_its_prompts_as_the_checkpoint_does(run: Path, tmp_path: Path) -> None:
    """Also where the run had scored it with its own template; what was changed is told."""
    own = (Path(local_path("embedded:tiny")) / "chat_template.jinja").read_text()
    template = tmp_path / "other.jinja"
    template.write_text(own.replace("{{ message.content }}", "{{ message.content }} G G up up"))
    few, other = "eval.episodes=24", f"model.chat_template_file={template}"
    [usual] = evaluated(str(run), few)
    [changed] = evaluated(str(run), few, other)
    [base] = evaluated(None, "model=tiny", "env=frozenlake", few, other)
    assert changed["base_score"] == base["mean_total_reward"] != usual["base_score"]
    assert usual["overridden"] is None
    assert changed["overridden"] == {"model.chat_template_file": [None, str(template)]}


def test_the_base_is_played_once_for_the_same_starts(run: Path) -> None:
    """What is kept of it is read, not played again; where it is damaged it is played anew."""
    other = ["eval.episodes=16", "rollout.prefix_memory=9"]
    [first] = evaluated(str(run), *other)
    assert first["overridden"] is None, "how much memory it takes decides no answer"
    [kept] = (run / "eval").glob("base-frozenlake-test-*.episodes.jsonl")
    rows = [json.loads(text) for text in kept.read_text().splitlines()]
    assert len(rows) == 16 and first["base_score"] == sum(row["total_reward"] for row in rows) / 16
    won = [{**row, "steps": [{**step, "reward": 0.25} for step in row["steps"]]} for row in rows]
    kept.write_text("".join(json.dumps(row) + "\n" for row in won))
    [second] = evaluated(str(run), *other)
    assert second["base_score"] == sum(len(row["steps"]) for row in rows) / 4 / 16 != first["base_score"]
    kept.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    [third] = evaluated(str(run), *other)
    assert third["base_score"] == first["base_score"] and len(kept.read_text().splitlines()) == 16


def test_all_checkpoints_and_scenarios_give_a_list(run: Path) -> None:
    results = evaluated(
        str(run), "eval.episodes=8", "eval.scenarios=[frozenlake,frozenlake_slippery]", all_checkpoints=True
    )
    checkpoints = len(list((run / "checkpoints").glob("checkpoint-*")))
    assert len(results) == 2 * checkpoints
    assert {result["env"] for result in results} == {"frozenlake", "frozenlake_slippery"}


def test_the_scenarios_of_the_paper_have_a_name(run: Path) -> None:
    results = evaluated(str(run), "eval.episodes=4", "eval.split=any", "eval.scenarios=paper")
    assert [result["env"] for result in results] == ["snake_8", "snake_20", "frozenlake", "frozenlake_slippery"]
    assert [result["success_rate"] is None for result in results] == [True, True, False, False]
    assert all(result["game_metrics"].keys() == {"apples", "length", "alive"} for result in results[:2])


def test_overrides_win_over_what_the_checkpoint_stored(run: Path) -> None:
    [result] = evaluated(str(run), "eval.episodes=8", "env.max_steps=2", "rollout.temperature=0.5")
    assert result["mean_length"] <= 2 and result["sampling"]["temperature"] == 0.5
    assert result["training_sampling"]["temperature"] == 1.0, "what it was trained with does not change"
    assert result["success_rate"] == 0.0, "a 4x4 lake cannot be crossed in two steps"


def test_a_base_needs_no_run() -> None:
    [result] = evaluated(None, "model=tiny", "env=frozenlake", "eval.episodes=40")
    assert result["checkpoint"] is None and result["policy"] == "model" and result["training_sampling"] is None
    assert result["valid_action_rate"] > 0.99
    assert 0.1 < result["success_rate"] < 0.7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "random_value", "optimal_value"), [("frozenlake", 0.0076, 1.0), ("frozenlake_slippery", 0.0647, 0.379)]
)
def test_reference_players_agree_with_the_exact_values(env: str, random_value: float, optimal_value: float) -> None:
    chosen = [f"env={env}", "eval.split=any", f"eval.episodes={PLAYED}"]
    [result] = evaluated(None, "policy=optimal", *chosen)
    for key, exact in (("random_score", random_value), ("mean_total_reward", optimal_value)):
        half_width = 3.29 * sqrt(exact * (1 - exact) / PLAYED)
        assert abs(result[key] - exact) <= half_width + 1e-12, key
    [random] = evaluated(None, "policy=random", f"env={env}", "eval.split=any", "eval.episodes=100")
    assert random["mean_total_reward"] == random["random_score"]
    if env == "frozenlake":
        assert result["mean_total_reward"] == 1.0 == result["optimal_score"]
    assert result["optimal_is_exact"] is True
    assert result["overlap_with_training"] is None, "nobody was trained"


@pytest.mark.parametrize(
    ("target", "overrides", "more", "message"),
    [
        (None, [], {"all_checkpoints": True}, "--all: needs a run"),
        ("nowhere/at/all", [], {}, "no such run"),
        (None, ["policy=api"], {}, "policy='?api"),
        (None, ["model=any", "model.path=./none"], {}, "no model here"),
    ],
)
def test_refusals(target: str | None, overrides: list[str], more: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evaluated(target, *overrides, **more)


def test_a_checkpoint_brings_its_own_model(run: Path) -> None:
    with pytest.raises(UsageError, match="brings its own model"):
        evaluated(str(run), "model=tiny")


def test_a_checkpoint_whose_game_is_foreign_code_is_refused(run: Path) -> None:
    for path in (run / "checkpoints").glob("*/msgrpo.json"):
        metadata = json.loads(path.read_text())
        metadata["env"]["id"] = "my_module:me/Maze-v0"
        path.write_text(json.dumps(metadata))
    with pytest.raises(UsageError, match="--allow-module my_module"):
        evaluated(str(run))


def test_a_damaged_checkpoint_is_named(run: Path) -> None:
    [folder, *_] = (run / "checkpoints").glob("checkpoint-*")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"model\.safetensors: damaged: 1000 bytes, \d+ were written"):
        evaluated(str(folder), "eval.episodes=4")
    (folder / "msgrpo.json").write_text("{}")
    with pytest.raises(UsageError, match=r"msgrpo\.json: broken: it lists no files"):
        evaluated(str(folder))
    (folder / "msgrpo.json").write_text('{"files": {}}')
    with pytest.raises(UsageError, match=r"msgrpo\.json: broken: its env is not what a run saves"):
        evaluated(str(folder))
    (folder / "msgrpo.json").unlink()
    with pytest.raises(UsageError, match=r"lost its msgrpo\.json"):
        evaluated(str(folder))


def test_where_optimal_play_is_unknown_the_better_of_two_players_is_the_best_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    overrides = ["env=snake_6x6", "eval.episodes=24", "eval.split=any"]
    [greedy] = evaluated(None, "policy=greedy", *overrides)
    [search] = evaluated(None, "policy=search", *overrides)
    [random] = evaluated(None, "policy=random", *overrides)
    assert greedy["optimal_is_exact"] is False
    best = max(greedy, search, key=lambda found: found["mean_total_reward"])
    assert greedy["mean_total_reward"] != search["mean_total_reward"]
    assert best["mean_total_reward"] == greedy["optimal_score"] == search["optimal_score"] == random["optimal_score"]
    assert (best["normalized_score"], random["normalized_score"]) == (1.0, 0.0)
    with pytest.raises(UsageError, match="policy=search: minesweeper has no such player; it has random, greedy"):
        evaluated(None, "policy=search", "env=minesweeper", "eval.episodes=4")
    capsys.readouterr()
    evaluate_subjects(asked_for(None, ["policy=random", *overrides]), as_json=False)
    shown = capsys.readouterr().out
    assert "best known " in shown and "optimal" not in shown


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["eval.scenarios=paper", "env=frozenlake"], "env=frozenlake: eval.scenarios chooses the games"),
        (
            ["eval.scenarios=[frozenlake,nope]"],
            r"eval.scenarios=\['frozenlake', 'nope'\]: no 'nope' in config",
        ),
        (["eval.scenarios=[]"], "eval.scenarios=.*names no game"),
        (["eval.scenarios=papr"], "eval.scenarios=papr: must be paper, or a list of names in conf/env"),
    ],
)
def test_scenarios_that_cannot_be_meant_are_refused(run: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked_for(str(run), overrides)
