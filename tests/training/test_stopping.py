"""When a run has collapsed or reached its goal: rows typed by hand, then real runs."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.saved import load_saved, saved_text
from msgrpo_cli.config.schema import SHORTEST_WINDOW, StopConfig
from msgrpo_cli.errors import UsageError
from msgrpo_cli.rollout.collect import PlayedUpdate
from msgrpo_cli.runs.resume import changed
from msgrpo_cli.training.stopping import FALSE_ALARMS, History, Stopping
from msgrpo_cli.training.train import train_job
from support.parts import played_update, small_model, trainer_for
from support.places import ROOT
from support.small_run import SMALL

WATCH = StopConfig(score=None, on_collapse=True, window=4)
LONG = 30  # updates on each level


def row(update: int, reward: float, **more: Any) -> dict[str, Any]:
    signs = {"entropy": 0.4, "valid_action_rate": 1.0, "zero_advantage_groups": 0.25, "logprob_gap_mean": 1e-6}
    return {"kind": "train", "update": update, "total_reward": reward, "grad_norm": 1.0, **signs, **more}


def levels(*means: float, last: int = 4) -> list[float]:
    """30 updates on each level and `last` on the last one, every other a little higher."""
    counts = [*[LONG] * (len(means) - 1), last]
    return [mean + 0.01 * (i % 2) for mean, count in zip(means, counts, strict=True) for i in range(count)]


def history(rewards: list[float], size: int = 4, **later: Any) -> History:
    found = History(size)
    for update, reward in enumerate(rewards, 1):
        found.add(row(update, reward, **(later if update > len(rewards) - size else {})))
    return found


def test_a_fall_by_half_of_the_gain_is_a_collapse_and_names_what_changed() -> None:
    found = history(levels(0.40, 0.60, 0.80, 0.50), entropy=0.1, zero_advantage_groups=0.9)  # gained 0.40, lost 0.30
    assert found.collapse() == (
        "total reward fell from 0.805 (updates 87 to 90) to 0.505 (the last 4); meanwhile entropy 0.400 -> 0.100, "
        "valid actions 100% -> 100%, groups without signal 25% -> 90%, log-probability gap 1.0e-06 -> 1.0e-06, "
        "gradient norm 1 -> 1. The policy became sure of the wrong thing: raise trainer.entropy_coef, set "
        "trainer.use_adaptive_entropy=true with a trainer.entropy_target, or lower trainer.learning_rate"
    )


@pytest.mark.parametrize(
    ("later", "said"),
    [
        ({"valid_action_rate": 0.5, "entropy": 0.1}, "The answers lost their form"),
        ({"logprob_gap_mean": 0.1, "entropy": 0.1}, "no longer what is sampled"),
        ({"entropy": 1.2}, "became random"),
        ({"grad_norm": 11.0}, "updates became too large"),
        ({}, "No single sign"),
        ({"valid_action_rate": 0.89}, "The answers lost their form"),
        ({"valid_action_rate": 0.91}, "No single sign"),
        ({"logprob_gap_mean": 5e-4}, "No single sign"),  # rounding, though 500 times what it was
        ({"entropy": 0.19}, "became sure of the wrong thing"),
        ({"entropy": 0.21}, "No single sign"),
        ({"entropy": 0.79}, "No single sign"),
        ({"entropy": 0.81}, "became random"),
        ({"grad_norm": 9.0}, "No single sign"),
        ({"entropy": None, "logprob_gap_mean": None, "grad_norm": None}, "No single sign"),
    ],
)
def test_the_likeliest_reading_follows(later: dict[str, Any], said: str) -> None:
    collapse = history(levels(0.40, 0.80, 0.20), **later).collapse()
    assert collapse is not None and said in collapse


@pytest.mark.parametrize(
    ("rewards", "collapsed"),
    [
        (levels(0.40, 0.80, 0.61), False),  # lost 0.19 of the 0.40 gained
        (levels(0.40, 0.80, 0.59), True),
        (levels(0.40, 0.80, 0.70, 0.59), True),  # from the best window, not from the latest
        (levels(0.40, 0.60, 0.80, 0.66), False),
        (levels(0.40, 0.80, 0.20, last=1), False),  # one bad update is a quarter of the last window
        ([0.40, 0.42, 0.45, 0.43], False),  # no window before the present one has lost anything
        ([0.2, 0.8, 0.3, 0.9, 0.1, 0.7, 0.0, 0.6], False),  # chance alone moves as much
        ([0.5], False),
        ([], False),
    ],
)
def test_half_of_the_gain_is_one_bound(rewards: list[float], collapsed: bool) -> None:
    assert (history(rewards).collapse() is not None) == collapsed


@pytest.mark.parametrize(("fall", "collapsed"), [(0.9, False), (1.1, True)])
def test_chance_is_the_other_bound(fall: float, collapsed: bool) -> None:
    """Nothing gained: 1 and -1 in turn, then the same around a lower level, by so much of what chance allows."""
    chance, before, lost = 0.0, [1.0, -1.0] * 20, 0.0
    for _ in range(50):  # the fall itself adds to the differences, so the bound is found by going round
        rewards = [*before, *([1.0 - lost, -1.0 - lost] * 2)]
        squares = sum((b - a) ** 2 for a, b in itertools.pairwise(rewards))
        chance = 4.746847538 * math.sqrt(squares / (2 * 43) * 2 / 4)
        lost = fall * chance
    assert (history(rewards).collapse() is not None) == collapsed
    assert FALSE_ALARMS == 0.01


def test_windows_that_overlap_are_not_compared() -> None:
    peaks = [history(rewards, 2).peak for rewards in ([0.1, 0.2, 0.3, 0.4, 0.5], [0.3, 0.3, 0.3, 0.3, 0.3])]
    assert [peak and peak.update for peak in peaks] == [3, 3], "the last that does not overlap, also of equals"


@pytest.mark.slow
@pytest.mark.parametrize("size", [SHORTEST_WINDOW, 15, 30])
def test_runs_that_learn_nothing_are_hardly_ever_told_to_have_collapsed(size: int) -> None:
    random, alarms, count = np.random.default_rng(0), 0, 0
    for updates, runs in ((60, 120), (180, 50), (700, 20)):
        shape = runs, updates
        noises = random.normal(0.3, 0.05, shape), random.binomial(16, 0.03, shape) / 16, random.standard_t(5, shape)
        for of_run in itertools.chain(*noises):
            followed, told = History(size), False
            for update, reward in enumerate(of_run, 1):
                followed.add(row(update, float(reward)))
                told = told or followed.collapse() is not None
            alarms += told
            count += 1
    assert count == 570 and alarms <= FALSE_ALARMS * count, alarms


@pytest.mark.parametrize("given", ["stop.window=2", "stop.window=3", "stop.window=5", "stop.window=9"])
def test_a_window_for_which_that_does_not_hold_is_refused(given: str, tmp_path: Path) -> None:
    wanted = rf"^{re.escape(given)}: must be at least 10: over fewer updates chance moves the mean as far as a"
    with pytest.raises(UsageError, match=wanted):
        compose("train", [given])
    config = compose("train", ["stop.window=10"])
    with pytest.raises(UsageError, match=wanted):
        changed(config, [given])
    with pytest.raises(UsageError, match=wanted):
        (tmp_path / "experiment").mkdir()
        section, number = "stop:\n  window: ", given.partition("=")[2]
        (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{section}{number}\n")
        compose("train", ["experiment=mine"], [tmp_path])
    old = config.model_copy(update={"stop": config.stop.model_copy(update={"window": 2})})
    (tmp_path / "config.yaml").write_text(saved_text(old))
    assert load_saved(tmp_path / "config.yaml") == old, "a run of before that is still read"


def test_the_shortest_window_is_the_default_and_shorter_ones_cry_wolf() -> None:
    assert compose("train", []).stop.window == SHORTEST_WINDOW == 10
    random, told = np.random.default_rng(0), dict.fromkeys((2, SHORTEST_WINDOW), 0)
    for of_run in random.normal(0.3, 0.05, (150, 60)):
        for size in told:
            followed = History(size)
            found = False
            for update, reward in enumerate(of_run, 1):
                followed.add(row(update, float(reward)))
                found = found or followed.collapse() is not None
            told[size] += found
    assert told[SHORTEST_WINDOW] <= 1 < told[2]


@pytest.mark.parametrize(("run", "found"), [("seed 1", 45), ("seed 2", 57)])
def test_recorded_collapses_are_found_about_as_early_as_by_the_rule_that_cried_wolf(run: str, found: int) -> None:
    """That rule told them at updates 43 and 57, and 31 % of runs of 180 updates that learnt nothing."""
    recorded = json.loads((ROOT / "tests/support/data/collapses.json").read_text())["runs"][run]
    followed = History(10)
    for update, figures in enumerate(recorded, 1):
        followed.add({"kind": "train", "update": update, **figures})
        if (told := followed.collapse()) is not None:
            break
    assert update == found and told is not None and "No single sign" in told


@pytest.mark.parametrize("lasts", [1, 8])
def test_a_real_collapse_is_found_within_a_window(lasts: int) -> None:
    """From a success of 0.8 to 0.2, at once or over 8 updates, with the noise of 64 episodes an update."""
    random, late = np.random.default_rng(lasts), []
    for _ in range(20):
        rise, top = np.linspace(0.2, 0.8, 30), np.full(20, 0.8)
        fall = np.concatenate([np.linspace(0.8, 0.2, lasts), np.full(30, 0.2)])
        rewards = random.binomial(64, np.concatenate([rise, top, fall])) / 64
        followed = History(10)
        for update, reward in enumerate(rewards, 1):
            followed.add(row(update, float(reward)))
            if followed.collapse() is not None:
                late.append(update - 50)
                break
    assert len(late) == 20 and min(late) > 0 and np.median(late) <= 8 + lasts / 2


def test_a_collapse_is_told_once_and_again_only_after_a_recovery() -> None:
    rewards = [*levels(0.40, 0.80, 0.20, 0.80, 0.20, last=10)]
    stopping = Stopping.of(StopConfig(score=None, on_collapse=False, window=4))
    told = [update for update, reward in enumerate(rewards, 1) if stopping.after_update(row(update, reward))]
    assert told == [62, 122] and stopping.reason is None


def test_a_resumed_run_decides_as_an_uninterrupted_one() -> None:
    rows = [row(update, reward) for update, reward in enumerate(levels(0.40, 0.80, 0.20), 1)]
    assert Stopping.of(WATCH, rows[:60]).reason is None
    reason = Stopping.of(WATCH, rows).reason
    assert reason is not None and reason.startswith("stop.on_collapse: total reward fell from 0.805")


def test_the_base_never_ends_a_run_and_a_score_does() -> None:
    enough = StopConfig(score=0.8, on_collapse=False, window=2)
    base = {"kind": "eval", "update": 0, "mean_total_reward": 0.9}
    assert Stopping.of(enough, [base]).reason is None
    later = {"kind": "eval", "update": 5, "mean_total_reward": 0.8}
    assert Stopping.of(enough, [base, later]).reason == "stop.score=0.8 is reached: 0.800 on validation"


def test_a_success_rate_that_is_enough_ends_a_run_whatever_the_reward() -> None:
    enough = StopConfig(score=None, success=0.8, on_collapse=False, window=2)
    rows = [
        {"kind": "eval", "update": update, "mean_total_reward": reward, "success_rate": success}
        for update, reward, success in [(0, 0.1, 0.9), (1, 3.0, 0.7), (2, 5.0, None), (3, -1.0, 0.8)]
    ]
    assert Stopping.of(enough, rows[:3]).reason is None
    assert Stopping.of(enough, rows).reason == "stop.success=0.8 is reached: 0.800 on validation"


def kinds(run: Path) -> list[tuple[str, int]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["kind"], line["update"]) for line in found]


def test_a_run_that_reached_its_score_ends_as_done_and_goes_on_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    config = compose("train", [*SMALL, "max_updates=4", "eval.every=2", "eval.episodes=4", "stop.score=0.0"])
    outcome = train_job(config, run, command=["test"], overrides=[])
    assert (outcome["updates"], outcome["status"]) == (2, "done")
    assert "stopped after update 2: stop.score=0 is reached" in capsys.readouterr().err
    record = json.loads((run / "run.json").read_text())
    assert record["stopped"].startswith("stop.score=0 is reached")
    before = (run / "metrics.jsonl").read_bytes()
    assert kinds(run)[-3:] == [("train", 2), ("eval", 2), ("eval", 2)]
    train_job(config, run, command=["test"], overrides=[], resume=run)
    assert (run / "metrics.jsonl").read_bytes() == before, "nothing is left to do"
    further = changed(config, ["stop.score=null"])
    assert train_job(further, run, command=["test"], overrides=[], resume=run)["updates"] == 4
    assert json.loads((run / "run.json").read_text())["stopped"] is None


@pytest.mark.parametrize(("bound", "withheld"), [(1e-9, 1), (1e9, 0)])
def test_a_gradient_beyond_its_guard_is_withheld(tmp_path: Path, bound: float, withheld: int) -> None:
    model, tokenizer = small_model()
    played = played_update(model, tokenizer)
    trainer = trainer_for(tmp_path, model, tokenizer, lambda update: played, guard_grad_norm=bound, max_updates=1)
    before = model.lm_head.weight.clone()
    trainer.train()
    assert trainer.update_metrics()["withheld_steps"] == withheld
    assert torch.equal(model.lm_head.weight, before) == bool(withheld)


def test_a_guard_that_withholds_everything_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tight = ["guard.log_ratio=1e-12", "max_updates=11", "eval.every=0", "eval.episodes=4", "save.every=11"]
    config = compose("train", [*SMALL, *tight, "algo.groups_per_update=6"])
    train_job(config, tmp_path / "run", command=["test"], overrides=[])
    said = " ".join(capsys.readouterr().err.split())
    assert (
        said.count("warning: 10 updates in a row changed nothing: guard.grad_norm=None or guard.log_ratio=1e-12") == 1
    )


def test_passes_that_lead_too_far_from_the_sampling_policy_are_withheld(tmp_path: Path) -> None:
    withheld, farthest = [], []
    for bound in (None, 0.05):
        model, tokenizer = small_model()
        played = played_update(model, tokenizer)
        settings = {"num_iterations": 4, "learning_rate": 1e-2, "guard_log_ratio": bound}
        trainer = trainer_for(tmp_path, model, tokenizer, lambda update, p=played: p, max_updates=1, **settings)
        trainer.train()
        metrics = trainer.update_metrics()
        withheld.append(metrics["withheld_steps"])
        farthest.append(metrics["log_ratio_max"])
    assert withheld[0] == 0 and withheld[1] == 3, "the first pass is at the sampling policy, the others are not"
    assert farthest[0] > farthest[1] > 0.05


def test_a_withheld_step_leaves_the_weights_alone_whatever_momentum_there_is(tmp_path: Path) -> None:
    model, tokenizer = small_model()
    before: list[torch.Tensor] = []

    def play(update: int) -> PlayedUpdate:
        if update == 2:
            before.append(model.lm_head.weight.clone())
            trainer.args.guard_grad_norm = 1e-9
        return played_update(model, tokenizer, update)

    trainer = trainer_for(tmp_path, model, tokenizer, play, max_updates=2)
    trainer.train()
    assert trainer.update_metrics()["withheld_steps"] == 1
    assert torch.equal(model.lm_head.weight, before[0])


def test_how_far_one_update_went_withholds_nothing_of_the_next(tmp_path: Path) -> None:
    model, tokenizer = small_model()
    settings = {"num_iterations": 2, "learning_rate": 1e-2, "guard_log_ratio": 0.05, "max_updates": 2}
    trainer = trainer_for(
        tmp_path, model, tokenizer, lambda update: played_update(model, tokenizer, update), **settings
    )
    trainer.train()
    assert trainer.update_metrics()["withheld_steps"] == 1, "the second pass, not the first"


def test_the_farthest_token_counts_in_whichever_micro_batch_it_is(tmp_path: Path) -> None:
    def withheld_and_farthest(bound: float | None) -> tuple[int, float]:
        model, tokenizer = small_model()
        played = played_update(model, tokenizer)
        settings = {"num_iterations": 2, "learning_rate": 1e-2, "per_device_train_batch_size": 3}
        trainer = trainer_for(
            tmp_path, model, tokenizer, lambda update: played, guard_log_ratio=bound, max_updates=1, **settings
        )
        trainer.train()
        metrics = trainer.update_metrics()
        return metrics["withheld_steps"], metrics["log_ratio_max"]

    _, farthest = withheld_and_farthest(None)
    assert [withheld_and_farthest(bound * farthest)[0] for bound in (0.999, 1.001)] == [1, 0]


@pytest.mark.slow
def test_the_entropy_floor_does_not_depend_on_micro_batches_and_survives_a_resume(tmp_path: Path) -> None:
    floor = ["trainer.use_adaptive_entropy=true", "trainer.entropy_target=0.3", "trainer.entropy_coef_delta=0.01"]
    found = []
    for name, more in (("one", []), ("many", ["trainer.per_device_train_batch_size=7"])):
        few = ["algo.groups_per_update=6", "eval.every=0", "eval.episodes=2", "max_updates=3", "save.every=2"]
        config = compose("train", [*SMALL, *floor, *more, *few])
        train_job(config, tmp_path / name, command=["test"], overrides=[])
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        found.append([line["entropy_coef"] for line in lines if line["kind"] == "train"])
    assert found[0] == found[1] == pytest.approx([0.02, 0.03, 0.04])
    run = tmp_path / "one"
    for file in (run / "checkpoints").glob("checkpoint-3/*"):
        file.unlink()
    train_job(config, run, command=["test"], overrides=[], resume=run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["entropy_coef"] for line in lines if line["kind"] == "train"] == pytest.approx(found[0])
