"""What several test modules share: one thread, no hub, and a finished run.

Where torch is not installed, whatever imports it, or a library that needs it, is skipped: a module, or a single test.
"""

from __future__ import annotations

import fcntl
import gc
import importlib.util
import logging
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Generator, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any, ClassVar

import pytest

from support.runs_at_work import PATIENCE, SIX_UPDATES, started
from support.small_run import SMALL
from support.snapshots import snapshot

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

HAVE_TORCH = importlib.util.find_spec("torch") is not None
NEED_TORCH = ("torch", "transformers", "trl", "accelerate", "peft", "datasets")


class SkipsWithoutTorch(MetaPathFinder):
    """Asked for modules that nobody else finds."""

    asked_for: ClassVar[str] = ""  # by the test that runs

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in NEED_TORCH:
            type(self).asked_for = name
            pytest.skip(f"{name} is not installed here", allow_module_level=True)


if not HAVE_TORCH:
    sys.meta_path.append(SkipsWithoutTorch())


def pytest_configure(config: pytest.Config) -> None:
    """Hydra takes 0.15 s for what our own files and some overrides are together: here a third of it, and once for the
    same overrides."""
    from msgrpo_cli.config import hydra_app
    from support.kept_composing import kept_composing

    composing = kept_composing()
    composing.__enter__()
    config.add_cleanup(lambda: composing.__exit__(None, None, None))

    real, known = hydra_app.look, {}

    def look(
        folder: Path, primary: str, overrides: Sequence[str], user_folders: Sequence[Path], with_hydra: bool = False
    ) -> Any:
        if user_folders or with_hydra:  # folders of tests, and directories with the time in their names
            return real(folder, primary, overrides, user_folders, with_hydra)
        if (asked := (folder, primary, *overrides)) not in known:
            known[asked] = pickle.dumps(real(folder, primary, overrides, user_folders))
        return pickle.loads(known[asked])  # bytes, for the collector looks through thousands of configs at every run

    hydra_app.look = look


def pytest_collection() -> None:
    """All that is imported from now on stays to the end: the collector need not look at it, now or again and again."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """The command line makes one line of every exception, of a skip too: what it kept back is skipped here."""
    SkipsWithoutTorch.asked_for = ""
    try:
        return (yield)
    except Exception:
        if SkipsWithoutTorch.asked_for:
            pytest.skip(f"{SkipsWithoutTorch.asked_for} is not installed here")
        raise


@pytest.fixture(autouse=True)
def _no_handler_stays() -> Generator[None]:
    """Hydra logs to a run's log.txt for as long as the process lives; here the run is gone before."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Two test workers on two cores: more threads would fight."""
    if HAVE_TORCH:
        import torch

        torch.set_num_threads(1)


def made_once(name: str, make: Callable[[Path], object], factory: pytest.TempPathFactory) -> Path:
    """A folder that `make` fills for all test workers together: the first that wants it makes it, the others wait."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once" / name
    folder.parent.mkdir(exist_ok=True)
    whole = folder.with_suffix(".whole")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            make(folder)
            whole.touch()
    return folder


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """A run of three updates, trained once in all; a test that changes it works on a copy."""

    def train(run: Path) -> None:
        from msgrpo_cli.config.compose import compose
        from msgrpo_cli.training.train import train_job

        train_job(compose("train", SMALL), run, command=["test"], overrides=SMALL)

    run = made_once("finished", train, tmp_path_factory)
    before = snapshot(run)
    yield run
    assert snapshot(run) == before, "a test changed the run that all share"


@pytest.fixture(scope="session")
def six_updates_by_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `SIX_UPDATES` by one process, without an interruption."""

    def train(run: Path) -> None:
        assert started(run.parent, *SIX_UPDATES, f"hydra.run.dir={run.name}").wait(PATIENCE) == 0

    return made_once("six-updates", train, tmp_path_factory)
