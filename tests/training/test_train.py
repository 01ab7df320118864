"""A whole run on the embedded model: what it leaves behind, how it goes on, what it does not change."""

from __future__ import annotations

import ast
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.saved import load_saved
from msgrpo_cli.config.trainer_fields import problems
from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.runs.checkpoint import from_weights, read_metadata, taught_otherwise
from msgrpo_cli.training.recorder import Recorder
from msgrpo_cli.training.train import train_job
from support.small_qwen import small_qwen
from support.small_run import SMALL

TRAIN_FIELDS = """kind update global_step skipped total_reward total_reward_std success_rate episode_length
    valid_action_rate truncated_completion_rate zero_advantage_groups episodes_played episodes_drawn steps_played rows
    effective_sample_size abs_advantage_pool abs_advantage_drawn loss entropy clip_ratio kl grad_norm learning_rate
    logprob_gap_mean logprob_gap_max tokens_prompt tokens_completion tokens_padding perf/seconds_rollout
    perf/seconds_scoring perf/seconds_update perf/seconds_total perf/decisions_per_second perf/memory_bytes"""
EVAL_FIELDS = """env policy checkpoint episodes distinct_initial_states distinct_initial_texts seeds split not_held_out
    overlap_with_training overlap_of_decisions success_rate success_ci95 mean_total_reward mean_total_reward_ci95
    normalized_score normalized_reason random_score base_score
    optimal_score optimal_is_exact greedy_success_rate greedy_mean_total_reward game_metrics valid_action_rate
    mean_length ends smallest_detectable_difference sampling training_sampling wall_seconds overridden usage"""


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def train(run: Path, *overrides: str, **more: Any) -> dict[str, Any]:
    return train_job(compose("train", [*SMALL, *overrides]), run, command=["test"], overrides=list(overrides), **more)


def without_clock(path: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if not key.startswith("perf/")} for row in rows(path)]


def test_metrics_have_the_documented_names(finished_run: Path) -> None:
    found = rows(finished_run / "metrics.jsonl")
    trained = [row for row in found if row["kind"] == "train"]
    assert [row["update"] for row in trained] == [1, 2, 3]
    assert set(TRAIN_FIELDS.split()) <= set(trained[0])
    assert not [name for name in trained[0] if name.startswith(("reward", "frac_reward", "completions/"))]
    evaluated = [row for row in found if row["kind"] == "eval"]
    assert [(row["update"], row["split"]) for row in evaluated][:3] == [
        (0, "validation"),
        (2, "validation"),
        (3, "validation"),
    ]
    assert evaluated[-1]["split"] == "test"
    expected = {"kind", "update", "global_step", *EVAL_FIELDS.split(), "perf/wall_seconds"} - {
        "wall_seconds",
        "usage",
        "overridden",
    }
    assert set(evaluated[0]) == expected


def test_numbers_of_an_update_agree_with_its_episodes(finished_run: Path) -> None:
    row = next(row for row in rows(finished_run / "metrics.jsonl") if row["update"] == 1 and row["kind"] == "train")
    episodes = [line for line in rows(finished_run / "episodes.jsonl") if line["update"] == 1]
    assert len(episodes) == row["episodes_played"] == 8
    assert sum(line["drawn"] for line in episodes) == row["episodes_drawn"]
    assert row["rows"] == sum(len(line["steps"]) for line in episodes if line["drawn"])
    assert row["total_reward"] == pytest.approx(sum(line["total_reward"] for line in episodes) / 8)
    assert all(line["split"] == "train" for line in episodes)
    for group in (0, 1):
        members = [line for line in episodes if line["group"] == group]
        assert len({line["state_key"] for line in members}) == 1
        assert abs(sum(line["advantage"] for line in members)) < 1e-9


def test_a_checkpoint_loads_with_plain_transformers(finished_run: Path) -> None:
    folder = finished_run / "checkpoints" / "checkpoint-3"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer.apply_chat_template(
        [{"role": "user", "content": "P . . .\n. . . .\n. O . .\n. . . G"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(**encoded, max_new_tokens=8, do_sample=False)
    assert tokenizer.decode(answer[0, encoded["input_ids"].shape[1] :]).startswith("<action>")
    assert tokenizer.unk_token_id not in encoded["input_ids"][0]
    card = (folder / "README.md").read_text()
    assert "frozenlake" in card and "stand-in" in card


def test_a_checkpoint_knows_its_game_prompt_and_sampling(finished_run: Path) -> None:
    metadata = read_metadata(finished_run / "checkpoints" / "checkpoint-3")
    assert metadata["env"]["name"] == "frozenlake" and metadata["env"]["max_steps"] == 8
    assert metadata["prompt"]["observation"] == "compact"
    assert metadata["rollout"]["temperature"] == 1.0
    assert metadata["invalid_action"] == "first"
    assert metadata["score"]["split"] == "validation"


def test_the_run_directory_is_complete(finished_run: Path) -> None:
    record = json.loads((finished_run / "run.json").read_text())
    assert record["status"] == "done" and record["error"] is None and record["threads"] >= 1
    assert record["versions"]["trl"].startswith("1.16")
    assert record["summary"]["last"]["update"] == 3
    assert record["summary"]["best"]["split"] == "test"
    assert load_saved(finished_run / "config.yaml") == compose("train", SMALL)
    assert (finished_run / "curve.png").read_bytes().startswith(b"\x89PNG")
    kept = {path.name for path in (finished_run / "checkpoints").iterdir()}
    assert kept >= {"checkpoint-2", "checkpoint-3"} and len(kept) <= 3
    stored = json.loads((finished_run / "eval" / "best.json").read_text())
    assert list(stored) == EVAL_FIELDS.split()
    assert stored["base_score"] is not None and stored["overlap_with_training"] == 0.0


def test_the_same_seed_gives_the_same_run_and_another_seed_another(finished_run: Path, tmp_path: Path) -> None:
    train(tmp_path / "again")
    assert without_clock(tmp_path / "again" / "metrics.jsonl") == without_clock(finished_run / "metrics.jsonl")
    assert (tmp_path / "again" / "episodes.jsonl").read_text() == (finished_run / "episodes.jsonl").read_text()
    train(tmp_path / "other", "seed=1", "max_updates=1")
    assert rows(tmp_path / "other" / "episodes.jsonl")[0] != rows(finished_run / "episodes.jsonl")[0]
    first = next(row for row in rows(tmp_path / "other" / "metrics.jsonl") if row["kind"] == "eval")
    base = next(row for row in rows(finished_run / "metrics.jsonl") if row["kind"] == "eval")
    assert first["seeds"] == base["seeds"], "the starts of an evaluation depend on eval.seed alone"
    assert first["success_rate"] == base["success_rate"]


def test_resume_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "resumed"
    constant = "trainer.lr_scheduler_type=constant"  # linear would end where the run was to end
    more = [constant, "eval.every=0", "eval.episodes=2"]
    train(run, "max_updates=2", *more)
    (run / "metrics.jsonl").open("a").write('{"kind": "train", "update": 3, "torn')
    whole = compose("train", [*SMALL, *more])
    outcome = train_job(whole, run, command=["test"], overrides=[], resume=run)
    assert outcome["updates"] == 3
    train_job(whole, tmp_path / "straight", command=["test"], overrides=[])
    resumed = [row for row in without_clock(run / "metrics.jsonl") if row["kind"] == "train"]
    rows_straight = without_clock(tmp_path / "straight" / "metrics.jsonl")
    assert resumed == [row for row in rows_straight if row["kind"] == "train"]


def test_a_run_that_goes_on_for_longer_follows_the_longer_line(tmp_path: Path) -> None:
    """The shorter one ends at 0, which is no rate to go on with."""
    run, few = tmp_path / "run", ["eval.every=0", "eval.episodes=4", "algo.groups_per_update=2"]
    train(run, "max_updates=2", *few)
    train_job(compose("train", [*SMALL, *few, "max_updates=4"]), run, command=["test"], overrides=[], resume=run)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rates = [row["learning_rate"] for row in rows if row["kind"] == "train"]
    whole = float(compose("train", SMALL).trainer["learning_rate"])
    assert rates == pytest.approx([whole, whole / 2, whole / 2, whole / 4])


def test_resume_of_a_finished_run_has_nothing_to_do(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "copy"
    shutil.copytree(finished_run, run)
    before = (run / "metrics.jsonl").read_text()
    outcome = train_job(compose("train", SMALL), run, command=["test"], overrides=[], resume=run)
    assert outcome["status"] == "done" and (run / "metrics.jsonl").read_text() == before


def test_a_run_that_ended_before_its_base_was_scored_starts_afresh_in_place(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "early"
    run.mkdir()
    first = (finished_run / "metrics.jsonl").read_text().splitlines()[0]
    (run / "metrics.jsonl").write_text(first + "\n")
    train_job(compose("train", SMALL), run, command=["test"], overrides=[], resume=run)
    assert without_clock(run / "metrics.jsonl") == without_clock(finished_run / "metrics.jsonl")


def test_from_another_run_starts_with_its_weights(finished_run: Path, tmp_path: Path) -> None:
    source = finished_run / "checkpoints" / "checkpoint-3"
    config = from_weights(compose("train", [*SMALL, "max_updates=1", "eval.every=0"]), source)
    train_job(config, tmp_path / "next", command=["test"], overrides=[])
    base = json.loads((tmp_path / "next" / "eval" / "base.json").read_text())
    scored = json.loads((finished_run / "eval" / "best.json").read_text())
    if scored["checkpoint"].endswith("checkpoint-3"):
        assert base["success_rate"] == scored["success_rate"]
    assert load_saved(tmp_path / "next" / "config.yaml").model.path == str(source)


def test_from_a_run_of_another_game_or_prompt_says_so(finished_run: Path) -> None:
    source = finished_run / "checkpoints" / "checkpoint-3"

    def otherwise(*overrides: str) -> list[str]:
        return taught_otherwise(from_weights(compose("train", [*SMALL, *overrides]), source))

    assert otherwise() == []
    fuller = ["prompt.observation=full", "prompt.history=2", "rollout.max_prompt_tokens=900"]
    assert otherwise(*fuller) == ["prompt.observation=compact", "prompt.history=0"]
    other = ["env=snake_8", "prompt.user='Now: {{ observation }}'"]
    assert otherwise(*other) == ["env.name=frozenlake", "another prompt.user"]
    assert taught_otherwise(compose("train", SMALL)) == []


@pytest.mark.slow
def test_the_kl_reference_is_the_policy_at_update_0_and_survives_a_resume(tmp_path: Path) -> None:
    run = tmp_path / "kl"
    few = ["algo.groups_per_update=6", "eval.every=0", "eval.episodes=2"]
    beta = ["trainer.beta=0.1", "trainer.lr_scheduler_type=constant", *few]
    train(run, *beta, "max_updates=2")
    first = [row["kl"] for row in rows(run / "metrics.jsonl") if row["kind"] == "train"]
    assert first[0] == pytest.approx(0.0, abs=1e-6) and first[1] > 1e-6
    config = compose("train", [*SMALL, *beta])
    train_job(config, run, command=["test"], overrides=[], resume=run)
    straight = tmp_path / "straight"
    train_job(config, straight, command=["test"], overrides=[])
    again, once = (
        [row["kl"] for row in rows(path / "metrics.jsonl") if row["kind"] == "train"] for path in (run, straight)
    )
    assert again == once and len(again) == 3
    reference = AutoModelForCausalLM.from_pretrained(run / "reference")
    base = AutoModelForCausalLM.from_pretrained("src/msgrpo_cli/assets/tiny") if Path("src").exists() else reference
    assert torch.equal(reference.lm_head.weight, base.lm_head.weight)


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    """None of what its generation config says may leak into sampling."""
    return small_qwen(tmp_path / "small-qwen", do_sample=True, repetition_penalty=1.3, top_k=3)


def test_the_large_settings_train_a_local_checkpoint(qwen: Path, tmp_path: Path) -> None:
    run = tmp_path / "qwen"
    overrides = [
        "experiment=paper_frozenlake", f"model.path={qwen}", "max_updates=2", "rollout.max_new_tokens=6",
        "rollout.max_prompt_tokens=3000", "algo.groups_per_update=1", "algo.group_size=8", "env.max_steps=3",
        "env.size=2", "env.p=1.0", "eval.split=any",
        "algo.invalid_action=random", "algo.format_penalty=0", "eval.episodes=4", "eval.every=0", "save.every=1",
        "algo.episode_sampling=all", "trainer.entropy_coef=0.1",
    ]  # fmt: skip
    train_job(compose("train", overrides), run, command=["test"], overrides=overrides)
    trained = [row for row in rows(run / "metrics.jsonl") if row["kind"] == "train"]
    assert len(trained) == 2 and trained[0]["tokens_prompt"] > 1000
    gaps = [row["logprob_gap_max"] for row in trained if not row["skipped"]]
    assert all(gap < 1e-4 for gap in gaps)
    stored = AutoModelForCausalLM.from_pretrained(run / "checkpoints" / "checkpoint-2")
    assert type(stored).__name__ == "Qwen2ForCausalLM"


@pytest.mark.slow
def test_random_weights_of_a_real_architecture_train(tmp_path: Path) -> None:
    run = tmp_path / "random"
    overrides = [
        "model=smollm2-135m",
        "model.init=random",
        "max_updates=1",
        "algo.groups_per_update=1",
        "algo.group_size=2",
        "env.max_steps=2",
        "rollout.max_new_tokens=4",
        "rollout.max_prompt_tokens=3000",
        "trainer.learning_rate=1e-5",
        "eval.episodes=2",
        "eval.every=0",
        "save.keep_last=1",
    ]
    train(run, *overrides)
    row = rows(run / "metrics.jsonl")[1]
    assert row["valid_action_rate"] == 0.0 and row["skipped"] is True
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "done"


def test_a_prompt_that_is_too_long_fails_with_both_lengths(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"rollout.max_prompt_tokens=10: a prompt of frozenlake has 22 tokens"):
        train(tmp_path / "long", "rollout.max_prompt_tokens=10")
    record = json.loads((tmp_path / "long" / "run.json").read_text())
    assert record["status"] == "failed" and "22 tokens" in record["error"]


def test_a_hub_model_out_of_reach_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"model.path=Qwen/Qwen2.5-3B-Instruct: .*local directory"):
        train(tmp_path / "hub", "model=qwen3b")


def test_trainer_fields_that_are_ours_are_refused() -> None:
    assert problems({"num_generations": 4}) and "algo.group_size" in problems({"num_generations": 4})[0]


def test_trackers_get_the_same_names_and_write_inside_the_run(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tmp_path / "tracked"
    train(run, "trainer.report_to=tensorboard", "max_updates=1", "eval.episodes=8")
    events = accumulator.EventAccumulator(str(run / "trackers" / "tensorboard"))
    events.Reload()
    names = set(events.Tags()["scalars"])
    row = next(row for row in rows(run / "metrics.jsonl") if row["kind"] == "train")
    numbers = {key for key, value in row.items() if isinstance(value, (int, float))}
    assert {f"train/{key}" for key in numbers} <= names
    assert {"eval/success_rate", "eval/mean_total_reward"} <= names
    assert not [name for name in names if "frac_reward" in name or "completions" in name]
    assert "TENSORBOARD_LOGGING_DIR" not in os.environ


def test_ten_updates_without_a_valid_action_are_told_with_raw_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["env.max_steps=1", "max_updates=11", "eval.every=0", "eval.episodes=2", "save.every=11"]
    train(tmp_path / "mute", "model.init=random", "algo.invalid_action=noop", *few)
    [said] = [line for line in capsys.readouterr().err.splitlines() if "without one valid action" in line]
    assert said.startswith("warning: 10 updates in a row without one valid action; some answers: ")
    played = [json.loads(line) for line in (tmp_path / "mute" / "episodes.jsonl").read_text().splitlines()]
    texts = {step["completion"] for episode in played if episode["update"] == 10 for step in episode["steps"]}
    shown = ast.literal_eval("[" + said.partition("some answers: ")[2] + "]")
    assert len(shown) == 3 and set(shown) <= texts


@pytest.mark.parametrize(
    ("given", "remedies"),
    [
        ([], ["prompt.examples=4", "prompt.answer_prefix='<action>'"]),
        (["prompt.examples=2"], ["prompt.answer_prefix='<action>'"]),
        (["prompt.examples=2", "prompt.answer_prefix=up"], ["more examples"]),
    ],
)
def test_a_first_update_without_a_valid_action_is_told_at_once(
    given: list[str], remedies: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["env.max_steps=1", "max_updates=2", "eval.every=0", "eval.episodes=2", "rollout.max_prompt_tokens=150"]
    train(tmp_path / "mute", "model.init=random", "algo.invalid_action=noop", *few, *given)
    [said] = [line for line in capsys.readouterr().err.splitlines() if "no answer of the first update" in line]
    assert said.startswith("warning: no answer of the first update is a valid action, so that nothing can be learnt")
    answers = ast.literal_eval("[" + said.partition("some answers: ")[2].rpartition(". ")[0] + "]")
    played = [json.loads(line) for line in (tmp_path / "mute" / "episodes.jsonl").read_text().splitlines()]
    texts = {step["completion"] for episode in played if episode["update"] == 1 for step in episode["steps"]}
    assert len(answers) == 3 and set(answers) <= texts
    assert [words for words in ("prompt.examples=4", "prompt.answer_prefix", "more examples") if words in said] == [
        words.partition("='")[0] for words in remedies
    ]


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (["", ""], "'', ''"),  # the end of the turn at once
        (["<action>up"] * 9, "'<action>up', '<action>up', '<action>up'"),  # cut off before the tag is closed
        (["<action>north</action>"], "'<action>north</action>'"),  # a word of another game
        (["I think\nup"], r"'I think\nup'"),  # no tag, and still on one line
    ],
)
def test_whatever_the_cause_the_answers_are_shown_once_and_raw(texts: list[str], shown: str) -> None:
    def played(answers: list[tuple[str, str | None]]) -> Any:
        steps = [SimpleNamespace(completion=SimpleNamespace(text=text, action=action)) for text, action in answers]
        return SimpleNamespace(update=2, episodes=[SimpleNamespace(steps=steps)])

    said: list[str] = []
    recorder: Any = SimpleNamespace(invalid_in_a_row=0, display=SimpleNamespace(say=said.append))
    mute, read = played([(text, None) for text in texts]), played([("<action>up</action>", "up"), ("", None)])
    for update in [mute] * 9 + [read] + [mute] * 9:
        Recorder._warn_of_invalid(recorder, update)
    assert said == [], "one valid action in between, and the ten begin anew"
    for update in [mute] * 5:
        Recorder._warn_of_invalid(recorder, update)
    assert said == [f"warning: 10 updates in a row without one valid action; some answers: {shown}"]


def test_ten_updates_without_signal_are_said_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hopeless = ["env.max_steps=1", "max_updates=11", "eval.every=0", "eval.episodes=4", "save.every=11"]
    train(tmp_path / "hopeless", *hopeless)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("warning: 10 updates in a row gave no signal") == 1
    found = [row for row in rows(tmp_path / "hopeless" / "metrics.jsonl") if row["kind"] == "train"]
    assert all(row["skipped"] and row["loss"] is None for row in found)
    assert len({row["learning_rate"] for row in found}) == 11, "a skipped update still moves the schedule"
