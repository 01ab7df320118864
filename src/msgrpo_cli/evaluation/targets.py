"""What `msgrpo eval` is asked to score, and the config of each: a checkpoint's own, unless the command line says else.

Knows checkpoints, configs and overrides. Knows nothing about models or how to score.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgrpo_cli.config.compose import compose, ids_of, lost_system, options_of
from msgrpo_cli.config.saved import write_checkpoint_options
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.config.seats import seat_problems
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.registry import check_allowed, make_game
from msgrpo_cli.runs import checkpoint
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.gguf import is_gguf
from msgrpo_cli.runs.pretrained import EMBEDDED, check_local, check_reachable

_API = "policy=api"
_AT_SERVER = "such as msgrpo eval NAME policy=api, or model=qwen72b"
_NEEDED = {"env": dict, "prompt": dict, "model": dict, "rollout": dict, "invalid_action": str}
"""Of a checkpoint's msgrpo.json."""


@dataclass(frozen=True)
class Subject:
    """What is scored: a checkpoint of ours, or whatever the config names."""

    checkpoint: Path | None = None
    run: Run | None = None
    name: str | None = None
    """How the checkpoint is called in results."""

    @property
    def metadata(self) -> dict[str, Any]:
        return checkpoint.read_metadata(self.checkpoint) if self.checkpoint else {}


def asked_for(
    target: str | None,
    overrides: Sequence[str],
    *,
    all_checkpoints: bool = False,
    config_dirs: Sequence[Path] = (),
    allow_modules: Sequence[str] = (),
    reach: bool = True,
) -> list[tuple[Subject, RunConfig]]:
    """Every subject with its config, once for each scenario. Raises UsageError for whatever cannot be meant.

    `reach`: see as well that a model of the hub, or of this machine, is there.
    """
    subjects, implied = _subjects(target, overrides, all_checkpoints)
    pairs = [
        (subject, config) for subject in subjects for config in _configs(subject, implied, config_dirs, allow_modules)
    ]
    for subject, config in pairs:
        if config.engine.name != "single":
            raise UsageError(f"engine={config.engine.name}: msgrpo eval plays with engine=single; leave engine out")
        if reach and config.policy == "model" and subject.checkpoint is None:
            check_reachable(config.model)
        if config.policy == "api" and config.model.path.startswith(EMBEDDED):
            raise UsageError(f"policy=api: no server has model={config.model.name}; name one of its own, {_AT_SERVER}")
    return pairs


def _subjects(target: str | None, overrides: Sequence[str], every: bool) -> tuple[list[Subject], list[str]]:
    """What the target names, and the overrides that it implies."""
    if _API in overrides:
        if every:
            raise UsageError("--all: needs a run, whose checkpoints are all scored")
        if target and (
            target == "last" or Path(target, "run.json").is_file() or checkpoint.is_checkpoint(Path(target))
        ):
            raise UsageError(
                f"{target}: a run or checkpoint of this machine; of a server's model give the name, "
                f"{_AT_SERVER}, or model.path=NAME"
            )
        return [Subject()], [*(_named(target, overrides) if target else []), *overrides]
    if target is None:
        if every:
            raise UsageError("--all: needs a run, whose checkpoints are all scored")
        for text in overrides:
            key, _, path = text.partition("=")
            if key == "model.path" and checkpoint.is_checkpoint(Path(path)):
                raise UsageError(f"{text}: a checkpoint of a run, with its own game and prompt; use msgrpo eval {path}")
        return [Subject()], list(overrides)
    if _is_foreign(target):
        check_local(target)
        if player := next((text for text in overrides if text.startswith("policy=") and text != "policy=model"), None):
            raise UsageError(f"{player}: plays without a model; leave {target} out, or {player}")
        return [Subject(name=_short(target))], [*_named(target, overrides), *overrides]
    if any(text.startswith(("model=", "model.path=")) for text in overrides):
        raise UsageError(f"model: {target} brings its own model; leave model= out, or leave the checkpoint out")
    found, run_path = checkpoint.find_checkpoint(target)
    run = Run(run_path) if run_path else None
    if run is not None:
        run.record()  # says where it is broken or newer, before anything is written
    if not every:
        return [_subject(found, run)], list(overrides)
    if run is None:
        raise UsageError(f"--all: {target} belongs to no run")
    there = {path: checkpoint.damage(path, read="model") for path in checkpoint.checkpoints(run)}
    for reason in filter(None, there.values()):
        print(f"warning: {reason}; it is left out", file=sys.stderr)
    return [_subject(path, run) for path, reason in there.items() if reason is None], list(overrides)


def _named(target: str, overrides: Sequence[str]) -> list[str]:
    """The overrides that choose a model of this name, with the prompt of any model unless another is chosen."""
    from msgrpo_cli.config.hydra_app import quoted

    chosen = [] if any(text.startswith("model=") for text in overrides) else ["model=any"]
    return [*chosen, f"model.path={quoted(target)}", f"model.name={quoted(_short(target))}"]


def _short(target: str) -> str:
    return Path(target).name or Path(target).resolve().name


def _is_foreign(target: str) -> bool:
    """A model that is no checkpoint of ours: a directory with a config.json or an adapter, a GGUF file, or a hub id
    such as owner/name."""
    path = Path(target)
    if is_gguf(target):
        return True
    if path.is_dir():
        if (path / "trainer_state.json").is_file() and not checkpoint.is_checkpoint(path):
            raise UsageError(f"{target}: a checkpoint that lost its msgrpo.json, so its game and prompt are unknown")
        model = (path / "config.json").is_file() or checkpoint.is_adapter(path)
        return model and not checkpoint.is_checkpoint(path)
    return target.count("/") == 1 and not target.startswith((".", "/", "~")) and not path.parent.exists()


def _subject(path: Path, run: Run | None) -> Subject:
    inside = run is not None and path.resolve().is_relative_to(run.path.resolve())
    name = str(path.resolve().relative_to(run.path.resolve())) if run and inside else str(path)
    return Subject(path, run, name)


def _configs(
    subject: Subject, overrides: Sequence[str], config_dirs: Sequence[Path], allow_modules: Sequence[str]
) -> list[RunConfig]:
    """One config for each scenario; what the checkpoint stored holds unless the command line says otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        options: list[Path] = []
        chosen: list[str] = []
        if subject.checkpoint:
            metadata = subject.metadata
            for key, kind in _NEEDED.items():
                if not isinstance(metadata.get(key), kind):
                    raise UsageError(f"{subject.checkpoint}/msgrpo.json: broken: its {key} is not what a run saves")
            if not isinstance(metadata["env"].get("id"), str):
                raise UsageError(f"{subject.checkpoint}/msgrpo.json: broken: its env has no id")
            for env_id in ids_of(metadata["env"]):
                check_allowed(env_id, allow_modules)
            stored = {**metadata["model"], "path": str(subject.checkpoint), "init": "pretrained", "revision": None}
            sections = {
                "env": metadata["env"],
                "prompt": metadata["prompt"],
                "model": stored,
                "rollout": metadata["rollout"],
                "algo": {"invalid_action": metadata["invalid_action"]},
            }
            options.append(write_checkpoint_options(Path(folder), sections))
            chosen.append("model=checkpoint")
        first = compose("eval", [*chosen, *overrides], [*options, *config_dirs])
        if (lost := lost_system(first, overrides, config_dirs)) is not None:
            print(f"warning: {lost}", file=sys.stderr)
        if not first.eval.scenarios:
            return [_seated(first, subject, overrides)]
        if both := [text for text in overrides if text.startswith("env=")]:
            raise UsageError(f"{both[0]}: eval.scenarios chooses the games; leave one of them out")
        known = options_of("env", config_dirs)
        for scenario in first.eval.scenarios:
            if scenario not in known:
                raise UsageError(
                    f"eval.scenarios={first.eval.scenarios}: no '{scenario}' in config group 'env' "
                    f"(available: {', '.join(known)})"
                )
        composed = [
            compose("eval", [*chosen, f"env={scenario}", *overrides], [*options, *config_dirs])
            for scenario in first.eval.scenarios
        ]
        return [_seated(config, subject, overrides) for config in composed]


def _seated(config: RunConfig, subject: Subject, overrides: Sequence[str]) -> RunConfig:
    """With whoever sat on the other seats in the run's own evaluations, where the game has as many."""
    seats = subject.metadata.get("seats") if subject.checkpoint else None
    if seats is None or any(text.lstrip("+~").startswith("eval.seats") for text in overrides):
        return config
    if not (isinstance(seats, list) and seats and all(isinstance(who, str) for who in seats)):
        raise UsageError(f"{subject.checkpoint}/msgrpo.json: broken: its seats are not what a run saves")
    if make_game(config.env).players != len(seats):
        return config
    config = config.model_copy(update={"eval": config.eval.model_copy(update={"seats": seats})})
    if problems := seat_problems(config):
        said = [f"{subject.checkpoint}: {line}; or play against others with eval.seats=[...]" for line in problems]
        raise UsageError("\n".join(said))
    return config
