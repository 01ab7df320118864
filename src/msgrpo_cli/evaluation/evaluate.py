"""`msgrpo eval`: checkpoints, bases and reference players scored on the same starts, shown as a ladder.

Knows the evaluator, players and models. Knows nothing about training or how the subjects were asked for.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from msgrpo_cli.common.console import talk_on_stderr, tally
from msgrpo_cli.common.files import read_json, strict
from msgrpo_cli.config.saved import config_hash
from msgrpo_cli.config.schema import ModelConfig, RolloutConfig, RunConfig
from msgrpo_cli.config.schema_prompt import PromptConfig
from msgrpo_cli.episode import Episode
from msgrpo_cli.errors import RunError, UsageError
from msgrpo_cli.models.factory import at_temperature, game_factory, load_policy, sampling_of
from msgrpo_cli.rollout.play import Policy
from msgrpo_cli.rollout.players import ExactPlayer, GreedyPlayer, RandomPlayer, SearchPlayer, players_of
from msgrpo_cli.runs.checkpoint import base_of
from msgrpo_cli.runs.resume import stored_base
from msgrpo_cli.runs.trained_prompts import trained_prompts

from .evaluator import Evaluator, Played
from .ladder import References, render
from .parts import evaluator_of, loading
from .record import evaluate_policy, record_evaluation
from .servers import Servers, asking
from .targets import Subject

_PLAYERS: dict[str, type[Policy]] = {
    "random": RandomPlayer,
    "greedy": GreedyPlayer,
    "search": SearchPlayer,
    "optimal": ExactPlayer,
}


def evaluate_subjects(asked: Sequence[tuple[Subject, RunConfig]], *, as_json: bool) -> list[dict[str, Any]]:
    """Score, print a table (or one JSON value) to stdout, store results in the run; returns the JSON objects."""
    with talk_on_stderr(), loading([config for _, config in asked]):
        told: set[str] = set()
        results = [_evaluate(subject, config, told) for subject, config in asked]
    objects = [played.evaluation.to_json() for played, _ in results]
    if as_json:
        print(json.dumps(strict(objects if len(objects) > 1 else objects[0]), allow_nan=False))
    else:
        Console().print(render([played.evaluation for played, _ in results], [found for _, found in results]))
    return objects


def _evaluate(subject: Subject, config: RunConfig, told: set[str]) -> tuple[Played, References]:
    with asking(config) as servers:
        return _evaluated(subject, config, told, servers)


def _evaluated(subject: Subject, config: RunConfig, told: set[str], servers: Servers) -> tuple[Played, References]:
    counts_answers = config.policy == "api"  # instead of episodes
    evaluator = evaluator_of(
        config,
        "test",
        (lambda *_: None) if counts_answers else tally(config.env.name, "episodes, of"),
        player=servers.player,
    )
    if config.eval.split not in (None, evaluator.split):
        why = "the starts of {} are few or lead to one another, so none is held out; all are played"
        print(f"eval.split={config.eval.split}: {why.format(config.env.name)}", file=sys.stderr)
    # without a base that plays before it, a model that cannot be read is told before anything is played
    loaded = load_policy(config, config.model) if config.policy == "model" and not subject.checkpoint else None
    references = evaluator.references()
    if config.policy == "api":
        return _ask_server(config, evaluator, servers), references
    if config.policy != "model":
        _refuse_unknown(config, evaluator)
        try:
            return evaluator.evaluate(config.policy, _PLAYERS[config.policy]()), references
        except ValueError as problem:  # one game of a mixture has no such player
            raise UsageError(f"policy={config.policy}: {config.env.name}: {problem}") from problem
    base = _base_episodes(subject, config, evaluator) if subject.checkpoint else None
    references = evaluator.references(base)
    # after the base has gone; its path is the checkpoint's: `targets`
    policy = loaded or load_policy(config, config.model)
    for note in policy.conversation.notes:
        if note not in told:  # several checkpoints read prompts alike
            print(note, file=sys.stderr)
        told.add(note)
    trained_with = subject.metadata.get("rollout")
    played = evaluate_policy(
        evaluator,
        policy,
        config.eval.temperature,
        training_sampling=sampling_of(RolloutConfig.model_validate(trained_with)) if trained_with else None,
        checkpoint=subject.name,
        base_episodes=base,
        trained=trained_prompts(subject.checkpoint, config.prompt) if subject.checkpoint else None,
    )
    if subject.checkpoint:
        told_in = replace(played.evaluation, overridden=_overridden(subject.metadata, config) or None)
        played = replace(played, evaluation=told_in)
    if subject.run:
        key = config_hash(config)[:8]
        name = f"{config.env.name}-{evaluator.split}-{Path(subject.name or '').name}-{key}"
        record_evaluation(subject.run, played, subject.metadata.get("update"), name)
        print(f"{subject.run.path}: scored {subject.name}, kept as eval/{name}.json")  # on stderr, as all but results
    return played, references


def _ask_server(config: RunConfig, evaluator: Evaluator, servers: Servers) -> Played:
    """Scored as sampled alone: decoding greedily as well would cost as much again."""
    most, said = config.eval.episodes * config.env.max_steps, tally(config.env.name, "answers, at most", stays=True)
    policy = servers.policy(config.model.path, config.model.name, lambda answers: said(answers, most))
    try:
        played = evaluator.evaluate("api", policy, sampling=policy.sampling.to_json())
    except KeyboardInterrupt:
        print(policy.progress, file=sys.stderr)
        raise
    return replace(played, evaluation=replace(played.evaluation, usage=policy.usage.to_json()))


def _refuse_unknown(config: RunConfig, evaluator: Evaluator) -> None:
    able = players_of(game_factory(config.env, evaluation=True)())
    if config.policy == "optimal" and evaluator.exact_score is None:
        others = " or ".join(f"policy={name}" for name in able if name != "optimal")
        raise UsageError(
            f"policy=optimal: {config.env.name} does not tell its transitions, so optimal play is unknown; "
            f"take {others}"
        )
    if config.policy == "random" and "random" not in able:
        raise UsageError(
            f"policy=random: {config.env.name} takes free text and lists no moves to choose among; let its legal() "
            "return those that are known"
        )
    if config.policy not in able:
        raise UsageError(f"policy={config.policy}: {config.env.name} has no such player; it has {', '.join(able)}")


def _base_episodes(subject: Subject, config: RunConfig, evaluator: Evaluator) -> list[Episode] | None:
    """The base on the same starts: as stored by the run where that fits, else played, and kept there for the next
    checkpoint; None where it is gone."""
    assert subject.checkpoint is not None
    run = subject.run
    stored = stored_base(run) if run else None
    if stored is not None and run is not None:
        said = read_json(run.evaluations / "base.json")
        if _same_conditions(subject.metadata, said, config, evaluator):
            return stored
    try:
        base = base_of(subject.checkpoint, subject.metadata).model_copy(update=_read_with(config.model))
        key = config_hash(config.model_copy(update={"model": base}))[:8]
        name = f"base-{config.env.name}-{evaluator.split}-{key}"
        if run is not None and (kept := stored_base(run, name)) is not None:
            return kept
        policy = load_policy(config, base)
    except (RunError, UsageError) as error:
        Console(stderr=True).print(f"the base cannot be scored beside its checkpoint: {error}", markup=False)
        return None
    sampled = at_temperature(policy, config.eval.temperature)
    played = evaluator.evaluate("model", sampled, sampling=sampled.sampling.to_json())
    if run is not None:
        record_evaluation(run, played, 0, name)
    return played.episodes


def _overridden(metadata: dict[str, Any], config: RunConfig) -> dict[str, Any]:
    """What an evaluation plays otherwise than the checkpoint's own run would, beside game, starts and temperature."""
    model = ModelConfig.model_validate(metadata["model"])
    sections = {
        "prompt": (PromptConfig.model_validate(metadata["prompt"]).model_dump(), config.prompt.model_dump()),
        "model": (_read_with(model), _read_with(config.model)),
        "rollout": (_sampled_with(RolloutConfig.model_validate(metadata["rollout"])), _sampled_with(config.rollout)),
        "algo": ({"invalid_action": metadata["invalid_action"]}, {"invalid_action": config.algo.invalid_action}),
        "eval": ({"seats": metadata.get("seats")}, {"seats": config.eval.seats}),
    }
    return {
        f"{section}.{key}": [before[key], now[key]]
        for section, (before, now) in sections.items()
        for key in before
        if before[key] != now[key]
    }


def _sampled_with(rollout: RolloutConfig) -> dict[str, Any]:
    """What decides an answer; how much is computed at once, or kept, does not."""
    return rollout.model_dump(exclude={"max_live_episodes", "prefix_memory", "share_prompts"})


def _read_with(model: ModelConfig) -> dict[str, Any]:
    """How a model is read and computed, whichever its weights are."""
    return model.model_dump(
        include={"dtype", "attn_implementation", "chat_template_file", "chat_template_kwargs", "end_of_turn"}
    )


def _same_conditions(metadata: dict[str, Any], stored: dict[str, Any], config: RunConfig, evaluator: Evaluator) -> bool:
    """Whether a stored evaluation of the base had the same game, starts and sampling."""
    temperature = config.rollout.temperature if config.eval.temperature is None else config.eval.temperature
    return bool(
        metadata["env"] == config.env.model_dump()
        and PromptConfig.model_validate(metadata["prompt"]) == config.prompt
        and _read_with(ModelConfig.model_validate(metadata["model"])) == _read_with(config.model)
        and _sampled_with(RolloutConfig.model_validate(metadata["rollout"])) == _sampled_with(config.rollout)
        and metadata["invalid_action"] == config.algo.invalid_action
        and stored["split"] == evaluator.split
        and stored["seeds"] == [evaluator.starts[0].seed, evaluator.starts[-1].seed]
        and stored["episodes"] == len(evaluator.starts)
        and stored.get("seats", []) == list(evaluator.seats)
        and stored["sampling"].get("temperature") == temperature
    )
