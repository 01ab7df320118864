"""Checkpoints: whole or absent on disk, with what an evaluation needs to know beside the weights.

Knows directories, `msgrpo.json`, scores, and where the base of an adapter lies. Knows nothing about torch, peft, games
or how weights are written.

A base has its place outside: on the hub, in the package, or in a directory of the user's. Weights that a run made
itself (random ones, or an adapter merged into its base) are kept once, in the run's `base/`; checkpoints name them
by a path relative to themselves, so a run can be copied.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from msgrpo_cli.common.files import (
    SCHEMA,
    put_in_place,
    read_json,
    refuse_newer,
    remove_directory,
    write_json,
    write_text,
)
from msgrpo_cli.config.saved import base_folder
from msgrpo_cli.config.schema import ModelConfig, RunConfig
from msgrpo_cli.errors import RunError, UsageError

from .directory import Run, find_run, is_run
from .pretrained import EMBEDDED, is_local, local_path

METADATA = "msgrpo.json"
_CARD = "README.md"
_PREFIX = "checkpoint-"
_RESUMED_FROM = ("trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def metadata_of(
    config: RunConfig, run: Run, update: int, score: dict[str, Any] | None, *, interim: bool = False
) -> dict[str, Any]:
    """What `msgrpo eval` needs of the run: game, who sits on its seats, prompt, sampling, base model, and the score on
    validation.

    `interim`: taken because the run was asked to end, so it goes once a regular one follows.
    """
    return {
        "schema": SCHEMA,
        "update": update,
        "interim": interim,
        "run": run.path.name,
        "env": config.env.model_dump(),
        "prompt": config.prompt.model_dump(),
        "model": config.model.model_dump(),
        "lora": config.lora.model_dump() if config.lora.enabled else None,
        "base": named_base(config.model, run) if config.lora.enabled else None,
        "rollout": config.rollout.model_dump(),
        "invalid_action": config.algo.invalid_action,
        **({} if config.eval.seats is None else {"seats": config.eval.seats}),
        "score": score,
    }


def publish(partial: Path, run: Run, update: int, metadata: dict[str, Any], card: str) -> Path:
    """Complete a checkpoint that was written aside, sync it and rename it to `checkpoint-<update>`.

    Its metadata get the size and the SHA-256 of every file, so that damage is found later.
    """
    describe(partial, metadata)
    write_text(partial / _CARD, card)
    final = run.checkpoints / f"{_PREFIX}{update}"
    put_in_place(partial, final)
    return final


def describe(folder: Path, metadata: dict[str, Any]) -> None:
    """Put metadata beside weights, with the size and the SHA-256 of every file, so that `damage` can find it."""
    write_json(folder / METADATA, {**metadata, "files": files_in(folder)})


def files_in(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file of a checkpoint, but for those that may be written anew."""
    return {
        str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": _digest(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file not in (folder / METADATA, folder / _CARD)  # peft writes a card of its own
    }


def set_score(checkpoint: Path, score: dict[str, Any], card: str, *, interim: bool) -> None:
    """Add an evaluation that was made after its checkpoint, and whether it is still interim."""
    write_json(checkpoint / METADATA, {**read_metadata(checkpoint), "score": score, "interim": interim})
    write_text(checkpoint / _CARD, card)


OF_TRAINING = (
    "optimizer.pt",
    "optimizer/*",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*.pth",
    "trainer_state.json",
    "training_args.bin",
)
"""Files that only a run that goes on reads."""


def damage(checkpoint: Path, *, read: Literal["nothing", "model", "all"] = "nothing") -> str | None:
    """What is wrong with a checkpoint's files, in words; None where nothing is. Their sizes tell of most faults; `read`
    holds the contents, too, of what a model is loaded from, or of all, against what was written."""
    try:
        metadata = read_metadata(checkpoint)
    except UsageError as problem:
        return str(problem)
    files, score = metadata.get("files"), metadata.get("score")
    if not isinstance(files, dict):
        return f"{checkpoint / METADATA}: broken: it lists no files"
    if not (score is None or (isinstance(score, dict) and isinstance(score.get("mean_total_reward"), (int, float)))):
        return f"{checkpoint / METADATA}: broken: its score is no evaluation"
    for name, known in files.items():
        if not (isinstance(known, dict) and {"bytes", "sha256"} <= set(known)):
            return f"{checkpoint / METADATA}: broken: it does not say what {name} was"
        file = checkpoint / name
        if not file.is_file():
            return f"{file}: missing"
        if file.stat().st_size != known["bytes"]:
            return f"{file}: damaged: {file.stat().st_size} bytes, {known['bytes']} were written"
        is_read = read == "all" or (read == "model" and not any(fnmatch(name, pattern) for pattern in OF_TRAINING))
        if is_read and _digest(file) != known["sha256"]:
            return f"{file}: damaged: its content is not what was written"
    return None


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_metadata(checkpoint: Path) -> dict[str, Any]:
    """`msgrpo.json` of a checkpoint. Raises UsageError where it is missing, broken or of a newer schema."""
    metadata = read_json(checkpoint / METADATA)
    if not isinstance(metadata, dict):
        raise UsageError(f"{checkpoint / METADATA}: broken: not an object")
    refuse_newer(checkpoint / METADATA, metadata.get("schema", 0), SCHEMA)
    return metadata


def is_checkpoint(path: Path) -> bool:
    """Whether a directory is one of our checkpoints."""
    return (path / METADATA).is_file()


def checkpoints(run: Run) -> list[Path]:
    """The run's checkpoints whose files are there in full length, earliest first."""
    return [path for path in _named(run) if damage(path) is None]


def has(run: Run, update: int) -> bool:
    """Whether there is a checkpoint of this update."""
    return any(update_of(path) == update for path in checkpoints(run))


def _named(run: Run) -> list[Path]:
    """Every directory called like a checkpoint, earliest first."""
    found = [path for path in run.checkpoints.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdecimal()]
    return sorted(found, key=update_of)


def update_of(checkpoint: Path) -> int:
    """The update after which a checkpoint was taken."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def last_whole(run: Run, on_damage: Callable[[str], None] = lambda reason: None) -> Path | None:
    """The latest checkpoint that can be resumed from; None before the first. Later ones that cannot are told.

    Raises RunError where there are checkpoints but none is whole.
    """
    there = _named(run)
    for path in reversed(there):
        reason = damage(path, read="all") or _unfit(path)
        if reason is None:
            return path
        on_damage(reason)
    if there:
        raise RunError(
            f"{run.path}: none of its {len(there)} checkpoints is whole; start anew with msgrpo train, or from other "
            "weights with msgrpo train --from"
        )
    return None


def _unfit(checkpoint: Path) -> str | None:
    files = read_metadata(checkpoint)["files"]
    shared_out = any(name.startswith("optimizer/") for name in files)  # each process has written its part
    missing = [name for name in _RESUMED_FROM if name not in files and not (shared_out and name == "optimizer.pt")]
    return f"{checkpoint / missing[0]}: missing, so no run can go on from it" if missing else None


def score_of(checkpoint: Path) -> float | None:
    """Mean total reward on validation; None where the checkpoint was not evaluated."""
    score = read_metadata(checkpoint).get("score")
    return None if score is None else float(score["mean_total_reward"])


def best(run: Run, but: Collection[Path] = ()) -> Path | None:
    """The checkpoint with the highest validation score, the later of equals; else the last; None without any.

    Interim ones count only where there is no other, so that an interruption changes no choice. Those in `but` do not.
    """
    there = [path for path in checkpoints(run) if path not in but]
    there = [path for path in there if not _is_interim(path)] or there
    scored = [(score, update_of(path), path) for path in there if (score := score_of(path)) is not None]
    return max(scored)[2] if scored else (there[-1] if there else None)


def rotate(run: Run, keep_last: int, keep_best: bool) -> None:
    """Remove all but the latest, the last `keep_last` regular checkpoints and, if wanted, the best."""
    there = checkpoints(run)
    regular = [path for path in there if not _is_interim(path)]
    kept = {*there[-1:], *regular[-keep_last:], *([best(run)] if keep_best else [])}
    for path in there:
        if path not in kept:
            remove_directory(path)


def _is_interim(checkpoint: Path) -> bool:
    return bool(read_metadata(checkpoint).get("interim"))


def from_weights(config: RunConfig, source: Path) -> RunConfig:
    """The config with the weights of another run's best checkpoint, of a checkpoint or of a model directory as base."""
    found = source if not is_run(source) and not is_checkpoint(source) else find_checkpoint(str(source))[0]
    place = {"path": str(found.resolve()), "init": "pretrained", "revision": None, "adapter_base": None}
    return config.model_copy(update={"model": config.model.model_copy(update=place)})


def taught_otherwise(config: RunConfig) -> list[str]:
    """Of a checkpoint of ours as base: keys of game and prompt that it was trained with, where the config has others.

    None of models of other origin, of which nothing is known. Texts are named alone.
    """
    if not is_checkpoint(Path(config.model.path)):
        return []
    metadata, now = read_metadata(Path(config.model.path)), config.model_dump(mode="json")
    found = []
    texts = ("system", "user")
    shown = ("observation", "history", "examples", "answer_prefix", *texts)
    for section, key in (("env", "name"), *(("prompt", key) for key in shown)):
        then = (metadata.get(section) or {}).get(key, 0 if key == "examples" else None)  # runs of before it existed
        if then != now[section][key]:
            found.append(f"another {section}.{key}" if key in texts else f"{section}.{key}={then}")
    return found


def find_checkpoint(target: str) -> tuple[Path, Path | None]:
    """(checkpoint, its run or None) for a checkpoint directory or a run, whose best one is meant.

    What its model is loaded from has been read and is whole. Damaged checkpoints of a run are told on stderr. Raises
    UsageError where there is none that is whole.
    """
    path = Path(target)
    if is_checkpoint(path):
        if (reason := damage(path, read="model")) is not None:
            raise UsageError(reason)
        above = path.resolve().parent.parent
        return path, above if is_run(above) else None
    if path.is_dir() and not is_run(path):
        raise UsageError(f"{target}: neither a run (no run.json) nor a checkpoint (no {METADATA})")
    run_path = find_run(target)
    run = Run(run_path)
    damaged = {path: reason for path in _named(run) if (reason := damage(path)) is not None}
    while (found := best(run, damaged)) is not None and (reason := damage(found, read="model")) is not None:
        damaged[found] = reason
    if found is None:
        raise UsageError([*damaged.values()][-1] if damaged else f"{run_path}: has no checkpoint yet")
    for reason in damaged.values():  # it may have been the best
        print(f"warning: {reason}; {found.name} is the best that is whole", file=sys.stderr)
    return found, run_path


CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def is_adapter(folder: Path) -> bool:
    """Whether a directory holds an adapter rather than a whole model."""
    return (folder / CONFIG).is_file()


def plain_base(adapter: Path, model: ModelConfig) -> ModelConfig:
    """What an adapter that is no checkpoint of ours was trained on, as peft wrote it down; a relative path as the run
    that `model` is from has found it. Raises UsageError where it names nothing."""
    found = read_json(adapter / CONFIG)
    named = found.get("base_model_name_or_path") if isinstance(found, dict) else None
    if not isinstance(named, str) or not named:
        raise UsageError(f"{adapter / CONFIG}: names no base_model_name_or_path; write there what it was trained on")
    path = model.adapter_base or base_folder(adapter, named) or named
    return model.model_copy(update={"path": path, "init": "pretrained", "revision": None, "adapter_base": None})


def own_base(run: Run) -> Path:
    """Where a LoRA run keeps a base that it made itself."""
    return run.path / "base"


def named_base(model: ModelConfig, run: Run) -> str | None:
    """How a checkpoint of `run` names its base beside `model.path`: None where that says it on every machine."""
    if own_base(run).is_dir():
        return f"../../{own_base(run).name}"
    elsewhere = is_local(model.path) and not model.path.startswith(EMBEDDED)
    return str(Path(local_path(model.path)).absolute()) if elsewhere else None


def base_of(checkpoint: Path, metadata: Mapping[str, Any]) -> ModelConfig:
    """The model that a checkpoint's run started from. Raises UsageError where an adapter's own base is gone."""
    model = ModelConfig.model_validate(metadata["model"])
    if not (named := metadata.get("base")):
        return model
    place = (checkpoint / named).resolve()
    if not (place.is_file() or (place / "config.json").is_file()):
        raise UsageError(f"{checkpoint}: an adapter whose base is not at {place}; copy the whole run, or put it back")
    return model.model_copy(update={"path": str(place), "init": "pretrained", "revision": None})
