"""How a run goes on: what may change, from which point, and what was written after that point.

Knows the run directory, checkpoints and the saved config. Knows nothing about models or training.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgrpo_cli.common.files import read_json
from msgrpo_cli.common.jsonl import cut_lines, length_of_lines
from msgrpo_cli.config.compose import validated
from msgrpo_cli.config.ignored import in_vain
from msgrpo_cli.config.saved import dumped
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.episode import Episode
from msgrpo_cli.errors import UsageError

from . import checkpoint
from .directory import Run, is_run
from .episodes import read_episodes

_MAY_CHANGE = ("max_updates", "max_hours", "trainer.report_to")


def changed(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """The saved config with the overrides that `--resume` allows; UsageError for any other, pointing to `--from`."""
    if not overrides:
        return config
    from msgrpo_cli.config.hydra_app import assignments

    data = dumped(config)
    for text, (key, value) in zip(overrides, assignments(overrides), strict=True):
        if key == "parallel":  # a choice, where the saved config has keys
            raise UsageError(f"{text}: a choice; of a resumed run give keys: parallel.name=... parallel.processes=...")
        if not (key in _MAY_CHANGE or key.startswith(("eval.", "parallel.", "save.", "stop."))):
            raise UsageError(
                f"{text}: a resumed run may only raise max_updates and change eval.*, parallel.*, save.*, stop.*, "
                f"max_hours, trainer.report_to; to start anew from its weights use msgrpo train --from"
            )
        if key == "max_updates" and isinstance(value, int) and value < config.max_updates:
            raise UsageError(f"{text}: the run was to last {config.max_updates} updates; --resume may only raise that")
        section, _, name = key.partition(".")
        if "." in name:
            raise UsageError(f"{text}: unknown key '{key}'")
        (data[section] if name else data)[name or section] = value
    found = validated(data)
    if "fsdp" in {config.parallel.name, found.parallel.name} and config.parallel.name != found.parallel.name:
        raise UsageError(
            f"parallel.name={found.parallel.name}: the run keeps the optimizer's numbers as parallel="
            f"{config.parallel.name} does; leave it, or start anew from its weights with msgrpo train --from"
        )
    if lines := in_vain(found, overrides):
        raise UsageError("\n".join(lines))
    return found


@dataclass(frozen=True)
class ResumePoint:
    """Where a run stands on disk."""

    checkpoint: Path | None
    """The last whole one; None before the first, so that the run starts at update 0."""
    update: int
    base_is_scored: bool
    evaluation_is_pending: bool
    """The process was asked to end between an update and its evaluation, which is made up for."""


def resume_point(config: RunConfig, run: Run, on_damage: Callable[[str], None]) -> ResumePoint:
    """Look where the run stands; damaged checkpoints are told. Raises RunError where there are only such, UsageError
    where a run that ended has none."""
    last = checkpoint.last_whole(run, on_damage)
    scored = base_is_scored(config, run)
    if last is None and is_run(run.path) and run.record().get("status") == "done":
        raise UsageError(
            f"{run.checkpoints}: no checkpoint, and the run is done, so it would start again at update 0 and overwrite "
            "what it holds; put its checkpoints back, or start anew with msgrpo train"
        )
    if last is None:
        return ResumePoint(None, 0, scored, False)
    update = checkpoint.update_of(last)
    pending = config.evaluation_due(update) and checkpoint.score_of(last) is None
    return ResumePoint(last, update, scored, pending)


def base_is_scored(config: RunConfig, run: Run) -> bool:
    """Whether the base's evaluation lies there whole, and was made as the run's final one will be."""
    episodes = stored_base(run)
    made_with = run.record().get("base_scored_with") if is_run(run.path) else None
    return episodes is not None and len(episodes) == config.eval.episodes and made_with == scored_with(config)


def scored_with(config: RunConfig) -> dict[str, Any]:
    """What the starts and the sampling of an evaluation follow from, beside the game and the policy."""
    seats = {} if config.eval.seats is None else {"seats": config.eval.seats}
    return {**config.eval.model_dump(include={"episodes", "seed", "split", "temperature"}), **seats}


def stored_base(run: Run, name: str = "base") -> list[Episode] | None:
    """The episodes of an evaluation of the base, by default of that which began the run; None where they, or what they
    say, are missing or damaged."""
    try:
        said = read_json(run.evaluations / f"{name}.json")
        episodes = read_episodes(run.evaluations / f"{name}.episodes.jsonl")
    except (UsageError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return episodes if isinstance(said, dict) and len(episodes) == said.get("episodes") else None


def stays(point: ResumePoint, row: Mapping[str, Any]) -> bool:
    """Whether a row of metrics.jsonl or episodes.jsonl was written before this point; a final score goes."""
    if row["update"] > point.update or not (point.base_is_scored or point.checkpoint):
        return False
    if row["kind"] == "train" or "checkpoint" not in row:
        return True
    is_final = row["checkpoint"] is not None
    return not is_final and not (point.evaluation_is_pending and row["update"] == point.update)


def bytes_that_stay(point: ResumePoint, run: Run) -> dict[Path, int]:
    """How much of each file of rows was written before this point.

    Raises UsageError where such rows are damaged or missing: the run could not be what it would have been.
    """
    played: Counter[int] = Counter()
    logged: Counter[int] = Counter()

    def of_metrics(row: Mapping[str, Any]) -> bool:
        there = stays(point, row)
        if there and row["kind"] == "train":
            played[row["update"]] += row["episodes_played"]
        return there

    def of_episodes(row: Mapping[str, Any]) -> bool:
        logged[row["update"]] += 1
        return stays(point, row)

    kept = {
        run.metrics: length_of_lines(run.metrics, of_metrics),
        run.episodes: length_of_lines(run.episodes, of_episodes),
    }
    for update in range(1, point.update + 1):
        for file, whole in ((run.metrics, played[update] > 0), (run.episodes, logged[update] == played[update])):
            if not whole:
                raise UsageError(f"{file}: rows of update {update} are missing; put back a copy of the file")
    return kept


def go_back(run: Run, kept: Mapping[Path, int]) -> None:
    """Cut what was written after the point; it will be written again, the same. `kept`: see `bytes_that_stay`."""
    for file, end in kept.items():
        cut_lines(file, end)
    run.update_record(summary={key: value for key, value in run.record()["summary"].items() if key != "best"})
    remove_leftovers(run)


def remove_leftovers(run: Run) -> None:
    """Remove what was being written, or removed, when a process died."""
    for folder in (run.checkpoints, run.path):
        for leftover in (*folder.glob(".*.old"), *folder.glob("*.partial")):
            shutil.rmtree(leftover, ignore_errors=True)
    for pattern in (".*.tmp", "eval/.*.tmp", "checkpoints/*/.*.tmp"):
        for leftover in run.path.glob(pattern):
            leftover.unlink(missing_ok=True)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is not as it was when the run began, and may therefore change its numbers."""
    pairs = [(name, before.get(name), now.get(name)) for name in ("threads", "device", "commit")]
    versions = before.get("versions") or {}
    pairs += [(f"version of {name}", versions.get(name), new) for name, new in now["versions"].items()]
    return [
        f"{name}: {new}, was {old} before; the resumed run may differ from an uninterrupted one"
        for name, old, new in pairs
        if old is not None and old != new
    ]
