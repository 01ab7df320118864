"""Run directories that are amiss, each in one way: copies of a finished run with one thing changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

LAST = "checkpoints/checkpoint-3"


def _json(name: str, **changes: Any) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        (run / name).write_text(json.dumps(json.loads((run / name).read_text()) | changes))

    return change


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        config = yaml.safe_load((run / "config.yaml").read_text()) | changes
        (run / "config.yaml").write_text(yaml.safe_dump(config))

    return change


def _foreign(run: Path) -> None:
    """Names a module that would leave a trace if it were imported."""
    (run / "trap_of_theirs.py").write_text("open('sprung', 'w').close()\n")
    env = yaml.safe_load((run / "config.yaml").read_text())["env"] | {"id": "trap_of_theirs:they/Game-v0"}
    _config(env=env)(run)
    for checkpoint in (run / "checkpoints").glob("checkpoint-*"):
        _json("msgrpo.json", env=env)(checkpoint)


def _moved_base(run: Path) -> None:
    model = yaml.safe_load((run / "config.yaml").read_text())["model"]
    _config(model=model | {"path": "./gone"}, max_updates=9)(run)


CHANGES: dict[str, Callable[[Path], None]] = {
    "whole": lambda run: None,
    'it\'s an "odd" näme 運行': lambda run: None,
    "newer-config": _config(schema=99),
    "newer-record": _json("run.json", schema=99),
    "newer-checkpoint": _json(f"{LAST}/msgrpo.json", schema=99),
    "odd-schema": _json(f"{LAST}/msgrpo.json", schema="two"),
    "no-yaml": lambda run: (run / "config.yaml").write_text("a: [") and None,
    "unknown-key": _config(colour="green"),
    "no-config": lambda run: (run / "config.yaml").unlink(),
    "no-record": lambda run: (run / "run.json").write_text('{"status"') and None,
    "listed-record": lambda run: (run / "run.json").write_text("[]") and None,
    "no-env": _json(f"{LAST}/msgrpo.json", env="frozenlake"),
    "no-metadata": lambda run: (run / LAST / "msgrpo.json").write_text("[]") and None,
    "cut-weights": lambda run: (run / LAST / "model.safetensors").write_bytes(b"short") and None,
    "no-checkpoint": lambda run: shutil.rmtree(run / "checkpoints"),
    "rows-alone": lambda run: (run / "run.json").unlink(),
    "foreign": _foreign,
    "moved-base": _moved_base,
}


def write_runs(folder: Path, finished: Path) -> Path:
    """One run directory for each name in CHANGES."""
    for name, change in CHANGES.items():
        shutil.copytree(finished, folder / name)
        change(folder / name)
    return folder
