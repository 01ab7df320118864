"""`msgrpo lab policy`: what a model's policy is worth, computed from the probabilities of its answers in every state.

Knows policies, games that can be put into their states, and bounds of values. Knows nothing about training, the command
line or how figures are shown. What an answer weighs, and which are left over: `exact_answers`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from msgrpo_cli.common.console import tally
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.core import PlaceableDynamics, TextMediatedStochasticGame
from msgrpo_cli.models.beginnings import Tokens
from msgrpo_cli.models.factory import game_factory, play_rules
from msgrpo_cli.models.policy import LanguageAgentPolicy
from msgrpo_cli.rollout.play import Decision, GameFactory, PlayRules
from msgrpo_cli.rollout.value_bounds import READINGS, Known, Place, Worth, layers, worth

from .evaluator import Evaluator
from .exact_answers import asked_policy, canonical_answers, check_asked, known_of, measured, weighed
from .parts import evaluator_of
from .scores import score
from .targets import Subject


@dataclass(frozen=True)
class _Asked:
    """What a policy says at one prompt, in one state that reads so."""

    observation: str
    known: Known


def measure_policies(asked: Sequence[tuple[Subject, RunConfig]]) -> list[dict[str, Any]]:
    """What `measure_policy` returns, of each; everything is checked before anything is loaded."""
    return measured(asked, check, measure_policy)


def measure_policy(subject: Subject, config: RunConfig) -> dict[str, Any]:
    """The exact value of the policy on the starts of an evaluation, beside its score on the very same ones.

    Raises UsageError where the state's text does not decide alone, or the game cannot be put into its states.
    """
    evaluator = evaluator_of(config, "test", tally(config.env.name, "episodes, of"))
    policy = asked_policy(config)
    rules, make_game = play_rules(config, evaluation=True), game_factory(config.env, evaluation=True)
    return {
        "env": config.env.name,
        "model": config.model.name,
        "checkpoint": subject.name,
        **_measured(evaluator, policy, rules, make_game, config.rollout.max_live_episodes),
        "invalid_action": rules.invalid_action,
        "sampling": policy.sampling.to_json(),
    }


def check(config: RunConfig) -> None:
    """Raises UsageError for what cannot be computed; loads no weights."""
    check_asked(config)
    game = game_factory(config.env, evaluation=True)()
    if not isinstance(game, PlaceableDynamics) or game.actions is None:
        raise UsageError(
            f"env={config.env.name}: a game without place(), state() and transitions(), so its policy cannot be asked "
            "in every state; take env=frozenlake"
        )


def _measured(
    evaluator: Evaluator, policy: LanguageAgentPolicy, rules: PlayRules, make_game: GameFactory, rows: int
) -> dict[str, Any]:
    game = make_game()
    starts = _states(game, [start.seed for start in evaluator.starts])
    assert isinstance(game, PlaceableDynamics)
    places = [(taken, state) for taken, layer in enumerate(layers(game, starts, rules)) for state in layer]
    with policy.unchanged():
        asked = _ask(policy, make_game(), places, rules, rows)
        episodes = evaluator.play(policy)
    exact = worth(game, starts, rules, lambda taken, state: asked[taken, state].known)
    uniform = worth(game, starts, rules, lambda _, state: _uniform(game.legal_in(state)))
    sampled = score(episodes)
    means = {one: float(np.mean([exact.values[start][one] for start in starts])) for one in READINGS}
    return {
        "split": evaluator.split,
        "seeds": [evaluator.starts[0].seed, evaluator.starts[-1].seed],
        "distinct_initial_states": len(set(starts)),
        "states": len({state for _, state in places}),
        "value": [means["low"], means["high"]],
        "value_if_invalid": means["invalid"],
        **_of_answers(exact, asked),
        "sampled": {
            "episodes": len(episodes),
            "mean_total_reward": sampled.mean_total_reward,
            "mean_total_reward_ci95": sampled.mean_total_reward_ci95,
        },
        "random": float(np.mean([uniform.values[start]["low"] for start in starts])),
        "optimal": evaluator.exact_score,
        "of_states": _of_states(exact, asked),
    }


def _states(game: TextMediatedStochasticGame, seeds: Sequence[int]) -> list[Hashable]:
    found: list[Hashable] = []
    for seed in seeds:
        game.reset(seed=seed)
        assert isinstance(game, PlaceableDynamics)
        found.append(game.state())
    return found


def _uniform(moves: Sequence[str]) -> Known:
    return Known(dict.fromkeys(moves, 1 / len(moves)))


def _ask(
    policy: LanguageAgentPolicy,
    game: TextMediatedStochasticGame,
    places: Sequence[Place],
    rules: PlayRules,
    rows: int,
) -> dict[Place, _Asked]:
    """What is known of the policy at every place; each distinct prompt is read once."""
    assert isinstance(game, PlaceableDynamics)
    game.reset(seed=0)
    answers = canonical_answers(policy, game)
    prompts: dict[Tokens, int] = {}
    texts, number = dict[Place, str](), dict[Place, int]()
    for taken, state in places:
        game.place(state)
        game.elapsed = taken
        text = texts[taken, state] = game.describe(rules.observation)
        ids = policy.prompt_ids(Decision(game, text, ("lab", taken)))
        number[taken, state] = prompts.setdefault(ids, len(prompts))
    masses = weighed(policy, list(prompts), answers, rows, "lab policy")
    known: dict[tuple[int, tuple[str, ...]], Known] = {}
    found: dict[Place, _Asked] = {}
    for (taken, state), text in texts.items():
        prompt, moves = number[taken, state], game.legal_in(state)
        if (prompt, moves) not in known:
            game.place(state)
            game.elapsed = taken
            known[prompt, moves] = known_of(policy, Decision(game, text, ("lab", taken)), moves, masses[prompt])
        found[taken, state] = _Asked(text, known[prompt, moves])
    return found


def _of_answers(exact: Worth, asked: dict[Place, _Asked]) -> dict[str, Any]:
    """How much is covered, by visits and at worst."""
    visits = np.array([exact.visits.get(place, 0.0) for place in asked])
    uncovered = np.array([one.known.uncovered for one in asked.values()])
    invalid = np.array([one.known.invalid for one in asked.values()])
    worst = list(asked.values())[int(uncovered.argmax())]
    return {
        "uncovered": {
            "mean": float(visits @ uncovered / visits.sum()),
            "worst": float(uncovered.max()),
            "worst_observation": worst.observation,
        },
        "invalid": float(visits @ invalid / visits.sum()),
    }


def _of_states(exact: Worth, asked: dict[Place, _Asked]) -> list[dict[str, Any]]:
    """One object for each text and what is known there, with visits of all times together."""
    found: dict[tuple[str, tuple[tuple[str, float], ...]], dict[str, Any]] = {}
    for place, one in asked.items():
        key = (one.observation, tuple(one.known.shares.items()))
        row = found.setdefault(
            key,
            {
                "observation": one.observation,
                "visits": 0.0,
                "actions": dict(one.known.shares),
                "invalid": one.known.invalid,
                "uncovered": one.known.uncovered,
            },
        )
        row["visits"] += exact.visits.get(place, 0.0)
    return sorted(found.values(), key=lambda row: -row["visits"])
