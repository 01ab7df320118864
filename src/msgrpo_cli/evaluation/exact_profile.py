"""`msgrpo lab nash`: how far a model's policy, on every seat, is from an equilibrium of a game that is a tree.

Knows policies, games that have a tree, and how trees are solved. Knows nothing about training, the command line or how
figures are shown. What an answer weighs, and which are left over: `exact_answers`; here an answer that names no move,
known to be one or left over, plays what `algo.invalid_action` says.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from msgrpo_cli.common.statistics import mean_interval
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.episode import Start
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.seats import MultiPlayerGame
from msgrpo_cli.games.tree import HasTree
from msgrpo_cli.models.beginnings import Tokens
from msgrpo_cli.models.factory import game_factory, play_rules
from msgrpo_cli.models.policy import LanguageAgentPolicy
from msgrpo_cli.rollout.play import LISTED, Decision, GameFactory, PlayRules, play_episodes
from msgrpo_cli.rollout.tree_values import (
    ExtensiveForm,
    Profile,
    best_response,
    expand,
    expected_values,
)
from msgrpo_cli.rollout.value_bounds import Known

from .exact_answers import asked_policy, canonical_answers, check_asked, known_of, measured, weighed
from .targets import Subject


@dataclass(frozen=True)
class _Said:
    """What the policy says in one information set."""

    seat: int
    observation: str
    known: Known
    shares: Mapping[str, float]
    """What is played, whatever is said."""


def measure_profiles(asked: Sequence[tuple[Subject, RunConfig]]) -> list[dict[str, Any]]:
    """What `measure_profile` returns, of each; everything is checked before anything is loaded."""
    return measured(asked, check, measure_profile)


def check(config: RunConfig) -> None:
    """Raises UsageError for what cannot be computed; loads no weights."""
    check_asked(config)
    rules = play_rules(config, evaluation=True)
    if rules.invalid_action not in LISTED:
        raise UsageError(
            f"algo.invalid_action={rules.invalid_action}: an answer that names no move leaves the tree; take "
            f"algo.invalid_action={' or '.join(LISTED)}"
        )
    _made(config)


def _made(config: RunConfig) -> MultiPlayerGame:
    game = game_factory(config.env, evaluation=True)()
    if not isinstance(game, MultiPlayerGame) or not isinstance(game, HasTree) or game.actions is None:
        raise UsageError(
            f"env={config.env.name}: a game without tree() and stand_at(), so its equilibria are unknown; take "
            "env=openspiel_seats, or give yours both (docs/games.md)"
        )
    return game


def measure_profile(subject: Subject, config: RunConfig) -> dict[str, Any]:
    """NashConv and exploitability of the policy on every seat, beside those of uniform play, and a sample of its play.

    Raises UsageError for a game that is too large, or longer than its step limit.
    """
    game, rules = _made(config), play_rules(config, evaluation=True)
    assert isinstance(game, HasTree)
    print(f"lab nash: spelling out {config.env.name}", file=sys.stderr)
    try:
        form = expand(game.tree())
    except ValueError as problem:
        raise UsageError(f"env={config.env.name}: it cannot be solved: {problem}") from problem
    if (turns := form.turns) > game.max_steps:
        raise UsageError(f"env.max_steps={game.max_steps}: games of up to {turns} turns would be cut; give {turns}")
    policy = asked_policy(config)
    with policy.unchanged():
        said = _ask(policy, game, form.places, rules, config.rollout.max_live_episodes)
        sampled = _sampled(policy, game_factory(config.env, evaluation=True), rules, config)
    profile = [{key: said[seat, key].shares for key in of_seat} for seat, of_seat in enumerate(form.places)]
    return {
        "env": config.env.name,
        "model": config.model.name,
        "checkpoint": subject.name,
        "nodes": len(form.nodes),
        "information_sets": len(said),
        **worth(form, profile),
        "random": worth(form, form.uniform()),
        "sampled": {"episodes": config.eval.episodes, "seats": sampled},
        **_of_answers(list(said.values())),
        "invalid_action": rules.invalid_action,
        "sampling": policy.sampling.to_json(),
        "of_information_sets": [
            {
                "seat": one.seat,
                "observation": one.observation,
                "actions": dict(one.known.shares),
                "invalid": one.known.invalid,
                "uncovered": one.known.uncovered,
            }
            for one in said.values()
        ],
    }


def worth(form: ExtensiveForm, profile: Profile) -> dict[str, Any]:
    """NashConv, exploitability, and of every seat its value and that of a best response to the others."""
    values = expected_values(form, profile)
    best = [best_response(form, seat, profile).value for seat in range(form.players)]
    nash_conv = float(np.sum(np.array(best) - values))
    return {
        "nash_conv": nash_conv,
        "exploitability": nash_conv / form.players,
        "seats": [{"value": float(value), "best_response": one} for value, one in zip(values, best, strict=True)],
    }


def _ask(
    policy: LanguageAgentPolicy,
    game: MultiPlayerGame,
    there: Sequence[Mapping[Hashable, Any]],
    rules: PlayRules,
    rows: int,
) -> dict[tuple[int, Hashable], _Said]:
    """What is said in every information set; each distinct prompt is read once."""
    assert isinstance(game, HasTree)
    game.reset(seed=0)
    answers = canonical_answers(policy, game)
    prompts: dict[Tokens, int] = {}
    asked: list[tuple[int, Hashable, Any, str, int]] = []
    for seat, of_seat in enumerate(there):
        for key, node in of_seat.items():
            game.stand_at(node)
            view = game.seen_by(seat)
            text = view.describe(rules.observation)
            ids = policy.prompt_ids(Decision(view, text, ("lab", seat)))
            asked.append((seat, key, node, text, prompts.setdefault(ids, len(prompts))))
    masses = weighed(policy, list(prompts), answers, rows, "lab nash")
    found = {}
    for seat, key, node, text, prompt in asked:
        game.stand_at(node)
        view = game.seen_by(seat)
        moves = view.legal()
        known = known_of(policy, Decision(view, text, ("lab", seat)), moves, masses[prompt])
        found[seat, key] = _Said(seat, text, known, _played(known, moves, rules))
    return found


def _played(known: Known, moves: Sequence[str], rules: PlayRules) -> dict[str, float]:
    """What an answer that names no move plays is added to the moves that are named."""
    left = known.invalid + known.uncovered
    instead = {moves[0]: left} if rules.invalid_action == "first" else dict.fromkeys(moves, left / len(moves))
    shares = {move: known.shares.get(move, 0.0) + instead.get(move, 0.0) for move in moves}
    whole = sum(shares.values())
    return {move: share / whole for move, share in shares.items()}


def _sampled(
    policy: LanguageAgentPolicy, make_game: GameFactory, rules: PlayRules, config: RunConfig
) -> list[dict[str, Any]]:
    """Mean rewards of the seats when the policy plays itself."""
    seed, count = config.eval.seed, config.eval.episodes
    starts = [Start(number, number, 0, (seed, "lab nash", number, 0)) for number in range(count)]
    played = play_episodes(starts, make_game, policy, rules)
    rewards = np.array([[had.total_reward for had in episode.seats] for episode in played])
    return [
        {"mean_total_reward": float(of_seat.mean()), "mean_total_reward_ci95": mean_interval(of_seat.tolist())}
        for of_seat in rewards.T
    ]


def _of_answers(said: Sequence[_Said]) -> dict[str, Any]:
    """How much of what is said is known, over information sets."""
    worst = max(said, key=lambda one: one.known.uncovered)
    return {
        "uncovered": {
            "mean": float(np.mean([one.known.uncovered for one in said])),
            "worst": worst.known.uncovered,
            "worst_observation": worst.observation,
        },
        "invalid": float(np.mean([one.known.invalid for one in said])),
    }
