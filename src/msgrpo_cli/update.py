"""One rollout phase: which episodes an update plays, what each was worth, and which of them are trained on.

Knows groups, episodes, advantages and draws. Knows nothing about tokens, models, losses or files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .advantages import Scale, equal_rewards, group_advantages
from .episode import Episode, Start
from .episode_sampling import (
    Draw,
    EpisodeSampling,
    SamplingCorrection,
    SamplingScope,
    draw_episodes,
    effective_sample_size,
)
from .games.core import TextMediatedStochasticGame
from .games.guard import GameError
from .rollout import GameFactory, Judge, PlayRules, Policy, play_episodes
from .seeding import generator
from .split import keyed_seed


@dataclass(frozen=True)
class UpdateRules:
    """What every update of a run does."""

    seed: int
    groups_per_update: int
    group_size: int
    scale: Scale = "group"
    episode_sampling: EpisodeSampling = "absolute_advantage"
    sample_fraction: float = 0.25
    sampling_exponent: float = 1.0
    sampling_scope: SamplingScope = "update"
    sampling_correction: SamplingCorrection = "none"


@dataclass(frozen=True)
class PlayedUpdate:
    """The episodes of one update with their advantages; arrays of shape (E,), episodes group by group."""

    update: int
    episodes: tuple[Episode, ...]
    advantage_E: np.ndarray
    draw: Draw
    zero_advantage_groups: float
    """Share of groups whose rewards are equal."""
    seconds: float
    mixed: bool = False
    """The episodes come from a mixture of games."""

    @property
    def trained(self) -> list[tuple[Episode, float]]:
        """The drawn episodes, each with the advantage that every token of it gets (correction included)."""
        weighted_E = self.advantage_E * self.draw.factor_E
        return [
            (episode, float(advantage))
            for episode, advantage, drawn in zip(self.episodes, weighted_E, self.draw.drawn_E, strict=True)
            if drawn
        ]


def starts_of_update(game: TextMediatedStochasticGame, rules: UpdateRules, update: int) -> list[Start]:
    """The initial states of an update, each `group_size` times, all of the train part."""
    starts = []
    for group in range(rules.groups_per_update):
        seed = keyed_seed(game, "train", (rules.seed, update, group))
        starts += [
            Start(seed, group, member, (rules.seed, update, group, member)) for member in range(rules.group_size)
        ]
    return starts


def play_update(
    update: int,
    rules: UpdateRules,
    make_game: GameFactory,
    policy: Policy,
    play_rules: PlayRules,
    judge: Judge | None = None,
    on_progress: Callable[[int, int], None] = lambda finished, total: None,
) -> PlayedUpdate:
    """Play the groups of update number `update` (from 1), then compute advantages and draw.

    Everything follows from (rules.seed, update) and the policy's weights, whatever was played before.
    """
    began = time.perf_counter()
    game = make_game()
    starts = starts_of_update(game, rules, update)
    episodes = play_episodes(starts, make_game, policy, play_rules, judge, on_progress)
    _check_groups(episodes, rules.group_size)
    reward_GK = np.array([episode.total_reward for episode in episodes]).reshape(-1, rules.group_size)
    advantage_GK = group_advantages(reward_GK, rules.scale)
    draw = draw_episodes(
        advantage_GK,
        rules.episode_sampling,
        generator((rules.seed, update, "draw")),
        fraction=rules.sample_fraction,
        exponent=rules.sampling_exponent,
        scope=rules.sampling_scope,
        correction=rules.sampling_correction,
    )
    return PlayedUpdate(
        update=update,
        episodes=tuple(episodes),
        advantage_E=advantage_GK.reshape(-1),
        draw=draw,
        zero_advantage_groups=float(equal_rewards(reward_GK).mean()),
        seconds=time.perf_counter() - began,
        mixed=game.label is not None,
    )


def _check_groups(episodes: Sequence[Episode], group_size: int) -> None:
    for first in range(0, len(episodes), group_size):
        keys = {episode.state_key for episode in episodes[first : first + group_size]}
        if len(keys) > 1:
            start = episodes[first].start
            raise GameError(
                f"game {episodes[first].env}: the members of group {start.group} start from {len(keys)} different "
                f"states with seed {start.seed}; new_game must draw everything from the generator it is given"
            )


def rollout_metrics(played: PlayedUpdate) -> dict[str, float | int | None]:
    """The metrics of an update that the episodes alone decide (names: README, "reading the metrics").

    Of a mixture, some of them once more for each game that was played, as `<name>/<game>`.
    """
    games = sorted({episode.env for episode in played.episodes})
    of_each = {f"{name}/{game}": value for game in games for name, value in _of_game(played, game).items()}
    return {**_of_all(played), **(of_each if played.mixed else {})}


def _of_game(played: PlayedUpdate, game: str) -> dict[str, float | int | None]:
    episodes = [episode for episode in played.episodes if episode.env == game]
    won = [episode.success for episode in episodes if episode.success is not None]
    drawn = [played.draw.drawn_E[number] for number, episode in enumerate(played.episodes) if episode.env == game]
    steps = [step for episode in episodes for step in episode.steps]
    return {
        "total_reward": float(np.mean([episode.total_reward for episode in episodes])),
        "success_rate": float(np.mean(won)) if won else None,
        "episode_length": len(steps) / len(episodes),
        "valid_action_rate": sum(step.valid for step in steps) / len(steps),
        "episodes_played": len(episodes),
        "episodes_drawn": int(sum(drawn)),
    }


def _of_all(played: PlayedUpdate) -> dict[str, float | int | None]:
    episodes, absolute_E = played.episodes, np.abs(played.advantage_E)
    steps = [step for episode in episodes for step in episode.steps]
    rewards = np.array([episode.total_reward for episode in episodes])
    drawn_E = played.draw.drawn_E
    won = [episode.success for episode in episodes if episode.success is not None]
    any_drawn = bool(drawn_E.any())
    return {
        "total_reward": float(rewards.mean()),
        "total_reward_std": float(rewards.std(ddof=1)),
        "success_rate": float(np.mean(won)) if won else None,
        "episode_length": len(steps) / len(episodes),
        "valid_action_rate": sum(step.valid for step in steps) / len(steps),
        "truncated_completion_rate": sum(step.completion.truncated for step in steps) / len(steps),
        "zero_advantage_groups": played.zero_advantage_groups,
        "zero_advantage_episodes": float((absolute_E == 0).mean()),
        "episodes_played": len(episodes),
        "episodes_drawn": int(drawn_E.sum()),
        "steps_played": len(steps),
        "effective_sample_size": effective_sample_size(played.advantage_E),
        "abs_advantage_pool": float(absolute_E.mean()),
        "abs_advantage_drawn": float(absolute_E[drawn_E].mean()) if any_drawn else None,
        "advantage_drawn": float(played.advantage_E[drawn_E].mean()) if any_drawn else None,
    }
