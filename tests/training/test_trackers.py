"""Every tracker for real, with its own storage inside the run directory: our metrics, and the whole config."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from msgrpo_cli.training.trackers import trackers_inside


def _tensorboard(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [folder] = {file.parent for file in run.rglob("*tfevents*")}
    events = EventAccumulator(str(folder))
    events.Reload()
    assert {"train/total_reward", "train/effective_sample_size", "eval/mean_total_reward"} <= set(
        events.Tags()["scalars"]
    )
    assert [event.step for event in events.Scalars("train/total_reward")] == [1, 2]
    assert b"groups_per_update" in events.Tensors("args/text_summary")[0].tensor_proto.string_val[0]


def _wandb(run: Path) -> None:
    [file] = run.glob("trackers/wandb/offline-run-*/*.wandb")
    written = file.read_bytes()
    for word in (b"total_reward", b"effective_sample_size", b"mean_total_reward", b"groups_per_update"):
        assert word in written


def _mlflow(run: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{run}/trackers/mlflow.db")
    [found] = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert found.info.run_name == "run"
    assert {"total_reward", "effective_sample_size", "eval_mean_total_reward"} <= set(found.data.metrics)
    assert found.data.params["run_config.algo.groups_per_update"] == "2"
    assert found.data.params["run_config.env.name"] == "frozenlake"


def _trackio(run: Path) -> None:
    [file] = run.glob("trackers/trackio-data/*.db")
    connection = sqlite3.connect(file)
    metrics = str(connection.execute("select * from metrics").fetchall())
    configs = str(connection.execute("select * from configs").fetchall())
    for word in ("total_reward", "effective_sample_size", "mean_total_reward"):
        assert word in metrics
    assert "groups_per_update" in configs


CHECKS: dict[str, Callable[[Path], None]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_a_tracker_holds_metrics_and_config(tmp_path: Path, name: str) -> None:
    pytest.importorskip(name)
    hidden = ("WANDB_", "MLFLOW_", "TRACKIO_", "TENSORBOARD_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    command = [sys.executable, "-m", "msgrpo_cli", "train", "experiment=smoke", f"trainer.report_to={name}"]
    done = subprocess.run(
        [*command, "hydra.run.dir=run"],
        cwd=tmp_path,
        env={**environment, "HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'run'}\n", "results alone"
    CHECKS[name](tmp_path / "run")
    strangers = {path.name for path in tmp_path.iterdir()} - {"run", "home"}
    assert strangers == set(), "all of it lies in the run directory"


def test_wandb_asks_nobody_for_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    with trackers_inside(tmp_path):
        assert os.environ["WANDB_MODE"] == "offline"
    assert "WANDB_MODE" not in os.environ
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    with trackers_inside(tmp_path):
        assert "WANDB_MODE" not in os.environ, "somebody is logged in"
    monkeypatch.setenv("WANDB_MODE", "online")
    with trackers_inside(tmp_path):
        assert os.environ["WANDB_MODE"] == "online", "what the user sets holds"
