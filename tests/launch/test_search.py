"""A search with Optuna: its space, its study that survives, pruning from a run's own metrics."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

optuna = pytest.importorskip("optuna")

from msgrpo_cli.common.jsonl import append_lines  # noqa: E402
from msgrpo_cli.config.hydra_app import parse  # noqa: E402
from msgrpo_cli.errors import UsageError  # noqa: E402
from msgrpo_cli.launch.search import Search, _distribution, open_study  # noqa: E402
from msgrpo_cli.runs.directory import Run  # noqa: E402
from msgrpo_cli.runs.sweep import Sweep, prune_file  # noqa: E402

SETTINGS = {"sampler": "random", "pruner": None, "maximize": "mean_total_reward", "seed": 0}
D = optuna.distributions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1,2", D.CategoricalDistribution(["1", "2"])),
        ("a=x,'y z'", D.CategoricalDistribution(["x", "'y z'"])),
        ("a=interval(0.1,0.5)", D.FloatDistribution(0.1, 0.5)),
        ("a=tag(log,interval(1e-5,1e-2))", D.FloatDistribution(1e-5, 1e-2, log=True)),
        ("a=int(interval(2,9))", D.IntDistribution(2, 9)),
        ("a=range(2,9,3)", D.IntDistribution(2, 8, step=3)),
        ("a=range(0,1,0.25)", D.FloatDistribution(0.0, 0.75, step=0.25)),
    ],
)
def test_values_become_distributions(text: str, expected: Any) -> None:
    assert _distribution(parse([text])[0]) == expected


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sampler": "best"}, r"hydra.sweeper.sampler=best: must be one of tpe, random"),
        ({"pruner": "axe"}, r"hydra.sweeper.pruner=axe: must be one of median"),
        ({"maximize": "loss"}, r"hydra.sweeper.maximize=loss: must be one of mean_total_reward"),
    ],
)
def test_settings_that_optuna_has_not_are_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_study(tmp_path, {**SETTINGS, **settings})


def search(path: Path, **settings: Any) -> Search:
    if not Sweep(path).file.exists():
        Sweep(path).create([])
    return Search(path, {**SETTINGS, **settings}, parse(["seed=3", "trainer.beta=interval(0,1)"]))


def played(path: Path, texts: list[str], status: str, score: float | None = None) -> Run:
    from msgrpo_cli.config.hydra_app import hash_of_overrides

    run = Run(path / hash_of_overrides(texts))
    run.update_record(status=status, pid=None, summary={"best": {"mean_total_reward": score}} if score else {})
    return run


def test_a_search_that_died_goes_on_with_its_open_jobs_and_tries_failed_ones_again(tmp_path: Path) -> None:
    first = search(tmp_path)
    jobs = first.ask(3)
    assert all(texts[0] == "seed=3" and texts[1].startswith("trainer.beta=0.") for texts in jobs) and len(jobs) == 3
    played(tmp_path, jobs[0], "done", 0.5)
    played(tmp_path, jobs[1], "failed")
    played(tmp_path, jobs[2], "interrupted")
    first.tell()
    assert first.ended == 2
    again = search(tmp_path)
    assert again.ended == 1, "the failed one counts no more"
    assert again.ask(2) == [jobs[2], jobs[1]]
    study = open_study(tmp_path, SETTINGS)
    assert study.best_value == 0.5


def test_nothing_is_asked_for_while_the_sweep_is_being_ended(tmp_path: Path) -> None:
    found = search(tmp_path)
    Sweep(tmp_path).stop_file.write_text("Ctrl-C")
    assert found.ask(3) == []


def test_a_job_that_falls_behind_is_marked_and_counts_as_pruned(tmp_path: Path) -> None:
    found = search(tmp_path, pruner="median")
    for score in (0.8, 0.9, 0.7, 0.8, 0.9):
        [texts] = found.ask(1)
        played(tmp_path, texts, "done", score)
        append_lines(played(tmp_path, texts, "done", score).metrics, _curve(score))
        for row in _curve(score):
            found._asked[0].report(row["mean_total_reward"], row["update"])
        found.tell()
    [texts] = found.ask(1)
    run = played(tmp_path, texts, "running")
    run.update_record(pid=1, host="elsewhere")
    append_lines(run.metrics, _curve(0.1))
    with found.pruning():
        deadline = time.monotonic() + 300
        while not prune_file(run.path).exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    assert prune_file(run.path).exists()
    run.update_record(status="interrupted", pruned=True)
    found.tell()
    assert open_study(tmp_path, SETTINGS).trials[-1].state.name == "PRUNED"
    assert found.ended == 6


def _curve(score: float) -> list[dict[str, Any]]:
    return [{"kind": "eval", "update": update, "mean_total_reward": score} for update in (0, 10, 20)]


@pytest.mark.slow
def test_a_real_search_is_resumed(tmp_path: Path) -> None:
    overrides = [
        "experiment=smoke", "max_updates=1", "eval.episodes=4", "algo.groups_per_update=1", "hydra.sweep.dir=all",
        "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.sampler=random",
        "trainer.learning_rate=tag(log,interval(1e-5,1e-2))", "algo.sample_fraction=0.5,1",
    ]  # fmt: skip
    program = [sys.executable, "-m", "msgrpo_cli", "sweep"]
    done = subprocess.run([*program, *overrides, "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    jobs = json.loads(done.stdout)["jobs"]
    assert [job["status"] for job in jobs] == ["done"] * 2
    again = subprocess.run(
        [*program, "--resume", "all", "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=900
    )
    assert again.returncode == 0 and json.loads(again.stdout)["jobs"] == jobs, again.stderr
    study = open_study(tmp_path / "all", SETTINGS)
    assert len(study.trials) == 2 and all(trial.value is not None for trial in study.trials)
