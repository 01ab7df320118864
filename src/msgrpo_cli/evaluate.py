"""`msgrpo eval`: checkpoints, bases and reference players scored on the same starts, shown as a ladder.

Knows checkpoints, configs and the evaluator. Knows nothing about training or the command line's parsing.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from . import checkpoint
from .assembly import at_temperature, game_factory, language_agent, play_rules
from .config import compose, config_hash, write_checkpoint_options
from .episode import Episode
from .episode_log import read_episodes
from .errors import RunError, UsageError
from .evaluator import Evaluator, Played
from .games.registry import check_allowed
from .ladder import References, render
from .model_paths import check_local
from .models import device_of_this_machine, load_model
from .players import ExactPlayer, GreedyPlayer, RandomPlayer
from .recorder import evaluate_policy, record_evaluation
from .rollout import Policy
from .runs import Run, read_json, strict
from .schema import ModelConfig, RunConfig
from .scores import score

_PLAYERS: dict[str, type[Policy]] = {"random": RandomPlayer, "greedy": GreedyPlayer, "optimal": ExactPlayer}


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


def evaluate_command(
    target: str | None,
    overrides: Sequence[str],
    *,
    all_checkpoints: bool = False,
    config_dirs: Sequence[Path] = (),
    allow_modules: Sequence[str] = (),
    as_json: bool = False,
) -> list[dict[str, Any]]:
    """Score, print a table (or one JSON value) to stdout, store results in the run; returns the JSON objects."""
    subjects, overrides = _subjects(target, overrides, all_checkpoints)
    results: list[tuple[Played, References]] = []
    for subject in subjects:
        for config in _configs(subject, overrides, config_dirs, allow_modules):
            results.append(_evaluate(subject, config))
    objects = [played.evaluation.to_json() for played, _ in results]
    if as_json:
        print(json.dumps(strict(objects if len(objects) > 1 else objects[0]), allow_nan=False))
    else:
        Console().print(render([played.evaluation for played, _ in results], [found for _, found in results]))
    return objects


def _subjects(target: str | None, overrides: Sequence[str], every: bool) -> tuple[list[Subject], list[str]]:
    """What the target names, and the overrides that it implies."""
    if target is None:
        if every:
            raise UsageError("--all: needs a run, whose checkpoints are all scored")
        return [Subject()], list(overrides)
    if _is_foreign(target):
        check_local(target)
        chosen = [] if any(text.startswith("model=") for text in overrides) else ["model=any"]
        name = Path(target).name
        return [Subject(name=name)], [*chosen, f"model.path={target}", f"model.name={name}", *overrides]
    if any(text.startswith(("model=", "model.path=")) for text in overrides):
        raise UsageError(f"model: {target} brings its own model; leave model= out, or leave the checkpoint out")
    found, run_path = checkpoint.find_checkpoint(target)
    run = Run(run_path) if run_path else None
    if not every:
        return [_subject(found, run)], list(overrides)
    if run is None:
        raise UsageError(f"--all: {target} belongs to no run")
    return [_subject(path, run) for path in checkpoint.checkpoints(run)], list(overrides)


def _is_foreign(target: str) -> bool:
    """A model that is no checkpoint of ours: a directory with a config.json, or a hub id such as owner/name."""
    path = Path(target)
    if path.is_dir():
        return (path / "config.json").is_file() and not checkpoint.is_checkpoint(path)
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
            check_allowed(metadata["env"]["id"], allow_modules)
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
        if not first.eval.scenarios:
            return [first]
        kept = [text for text in overrides if not text.startswith("env=")]
        return [
            compose("eval", [*chosen, f"env={scenario}", *kept], [*options, *config_dirs])
            for scenario in first.eval.scenarios
        ]


def _evaluate(subject: Subject, config: RunConfig) -> tuple[Played, References]:
    evaluator = Evaluator(
        game_factory(config.env, evaluation=True),
        play_rules(config, evaluation=True),
        split=config.eval.split or "test",
        seed=config.eval.seed,
        episodes=config.eval.episodes,
    )
    references = {"random": score(evaluator.random_episodes)}
    if config.policy != "model":
        _refuse_unknown(config, evaluator)
        return evaluator.evaluate(config.policy, _PLAYERS[config.policy]()), references
    base = _base_episodes(subject, config, evaluator) if subject.checkpoint else None
    if base:
        references["base"] = score(base)
    played = _play(config, evaluator, config.model, subject.name, base)
    if subject.run:
        key = config_hash(config)[:8]
        name = f"{config.env.name}-{evaluator.split}-{Path(subject.name or '').name}-{key}"
        record_evaluation(subject.run, played, subject.metadata.get("update"), name)
    return played, references


def _refuse_unknown(config: RunConfig, evaluator: Evaluator) -> None:
    if config.policy == "optimal" and evaluator.optimal_score is None:
        raise UsageError(f"policy=optimal: {config.env.name} does not tell its transitions, so optimal play is unknown")


def _play(
    config: RunConfig,
    evaluator: Evaluator,
    model_config: ModelConfig,
    name: str | None,
    base: Sequence[Episode] | None,
) -> Played:
    model, tokenizer = load_model(model_config, config.seed)
    policy = language_agent(config, model.to(device_of_this_machine()), tokenizer)  # type: ignore[arg-type]
    return evaluate_policy(evaluator, policy, config.eval.temperature, checkpoint=name, base_episodes=base)


def _base_episodes(subject: Subject, config: RunConfig, evaluator: Evaluator) -> list[Episode] | None:
    """The base on the same starts: as stored by the run where that fits, else played; None where it is gone."""
    base = ModelConfig.model_validate(subject.metadata["model"])
    stored = subject.run.evaluations / "base.json" if subject.run else None
    if (
        stored is not None
        and stored.exists()
        and _same_conditions(subject.metadata, read_json(stored), config, evaluator)
    ):
        return read_episodes(stored.with_name("base.episodes.jsonl"))
    try:
        model, tokenizer = load_model(base, config.seed)
    except (RunError, UsageError) as error:
        Console(stderr=True).print(f"the base cannot be scored beside its checkpoint: {error}", markup=False)
        return None
    policy = language_agent(config, model.to(device_of_this_machine()), tokenizer)  # type: ignore[arg-type]
    temperature = config.eval.temperature
    return evaluator.play(policy if temperature is None else at_temperature(policy, temperature))


def _same_conditions(metadata: dict[str, Any], stored: dict[str, Any], config: RunConfig, evaluator: Evaluator) -> bool:
    """Whether a stored evaluation of the base had the same game, starts and sampling."""
    temperature = config.rollout.temperature if config.eval.temperature is None else config.eval.temperature
    return bool(
        metadata["env"] == config.env.model_dump()
        and metadata["prompt"] == config.prompt.model_dump()
        and metadata["rollout"] == config.rollout.model_dump()
        and metadata["invalid_action"] == config.algo.invalid_action
        and stored["split"] == evaluator.split
        and stored["seeds"] == [evaluator.starts[0].seed, evaluator.starts[-1].seed]
        and stored["episodes"] == len(evaluator.starts)
        and stored["sampling"].get("temperature") == temperature
    )
