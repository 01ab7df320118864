"""Copies of a finished run that differ from it as other seeds, other settings or other fates would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def copy_of(
    run: Path,
    to: Path,
    *,
    config: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
    final: Mapping[str, Any] | None = None,
) -> Path:
    """A copy without checkpoints; `config` has dotted keys, `final` are fields of eval/best.json."""
    shutil.copytree(run, to, ignore=shutil.ignore_patterns("checkpoints", ".lock"))
    data = yaml.safe_load((to / "config.yaml").read_text())
    for key, value in (config or {}).items():
        *sections, last = key.split(".")
        block = data
        for section in sections:
            block = block[section]
        block[last] = value
    (to / "config.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    change_json(to / "run.json", **(record or {}))
    change_json(to / "eval" / "best.json", **(final or {}))
    return to


def change_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def seeds_of(run: Path, to: Path, name: str, scores: list[float], **config: Any) -> list[Path]:
    """One copy for each score, with seeds 0, 1, ...; random play scores 0 and optimal play 1."""
    return [
        copy_of(
            run,
            to / f"{name}-{seed}",
            config={"seed": seed, **{key.replace("__", "."): value for key, value in config.items()}},
            final={"mean_total_reward": score, "normalized_score": score, "success_rate": score},
        )
        for seed, score in enumerate(scores)
    ]


def sweep_json(sweep: Path, jobs: list[dict[str, Any]]) -> None:
    """What a sweep leaves beside its runs."""
    told = {"schema": 1, "status": "done", "command": [], "overrides": [], "config_dirs": [], "jobs": jobs}
    (sweep / "sweep.json").write_text(json.dumps(told | {"start": None, "end": None}))
