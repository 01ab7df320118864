"""What a set of episodes says about whoever played them, and the record of one evaluation.

Knows episodes and statistics. Knows nothing about models, files or how results are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from statistics import fmean
from typing import Any

from msgrpo_cli.common.statistics import (
    Interval,
    mean_interval,
    normalized_score,
    smallest_detectable_difference,
    wilson_interval,
)
from msgrpo_cli.episode import Episode, illegal_rate, pairs
from msgrpo_cli.errors import RunError
from msgrpo_cli.rollout.trained_prompts import Overlap


@dataclass(frozen=True, slots=True)
class Scores:
    """What one set of episodes says."""

    episodes: int
    distinct_initial_states: int
    """Counted by the whole state, never by seed."""
    distinct_initial_texts: int
    """Of these, counted by how they read: fewer where part of a state is hidden."""
    success_rate: float | None
    """Share of episodes won; None where the game declares no success."""
    success_ci95: Interval | None
    mean_total_reward: float
    mean_total_reward_ci95: Interval | None
    """None where the total rewards show no spread (and are no share)."""
    valid_action_rate: float
    """Share of steps, over all episodes, whose completion held a move of the state."""
    mean_length: float
    """Steps per episode."""
    ends: dict[str, int] = field(default_factory=dict)
    """Episodes for each way of ending, the most frequent first."""
    game_metrics: dict[str, float] = field(default_factory=dict)
    """Mean of each number that the game reports, over the episodes that report it."""
    illegal_action_rate: float | None = None
    """Share of steps whose completion held an action that is no move of the state; None where all always are."""


def score(played: Sequence[Episode]) -> Scores:
    """Sum up the episodes; of several players the pairs of the seats where `self` sits. Raises ValueError where there
    are none."""
    episodes = pairs(played)
    if not played:
        raise ValueError("no episodes to score")
    if not episodes:
        raise RunError("in no episode of the evaluation a seat of self came to decide, so there is nothing to score")
    rewards = [episode.total_reward for episode in episodes]
    wins = _successes(episodes)
    steps = [step for episode in episodes for step in episode.steps]
    mixed = len({episode.env for episode in episodes}) > 1
    metrics: dict[str, list[float]] = {}
    for episode in episodes:
        parts = _of_part(episode.env, episode) if mixed else _of_part(f"seat{episode.seat}", episode)
        for name, value in (*episode.game_metrics, *(parts if mixed or episode.seat is not None else ())):
            metrics.setdefault(name, []).append(value)
    is_share = wins is not None and rewards == [float(win) for win in wins]
    return Scores(
        episodes=len(played),
        distinct_initial_states=len({episode.state_key for episode in episodes}),
        distinct_initial_texts=len({episode.steps[0].observation for episode in episodes}),
        success_rate=None if wins is None else fmean(wins),
        success_ci95=None if wins is None else wilson_interval(sum(wins), len(wins)),
        mean_total_reward=fmean(rewards),
        mean_total_reward_ci95=mean_interval(rewards, share=is_share),
        valid_action_rate=fmean(step.valid for step in steps),
        mean_length=len(steps) / len(episodes),
        ends=dict(Counter(episode.ended_by for episode in played).most_common()),
        game_metrics={name: fmean(values) for name, values in metrics.items()},
        illegal_action_rate=illegal_rate(steps),
    )


def _of_part(name: str, episode: Episode) -> list[tuple[str, float]]:
    """Of an episode of a mixture, what its game alone scored; of a pair, its seat."""
    won = [] if episode.success is None else [(f"{name}/success_rate", float(episode.success))]
    return [(f"{name}/total_reward", episode.total_reward), *won]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One player scored on one game. The fields and their order are public: the evaluation JSON."""

    env: str
    policy: str
    checkpoint: str | None
    episodes: int
    distinct_initial_states: int
    distinct_initial_texts: int
    seeds: tuple[int, int]
    """First and last seed of the initial states."""
    split: str
    not_held_out: tuple[str, ...]
    """Of a mixture: games whose starts lie in no part, and were trained on like any."""
    overlap_with_training: float | None
    """Share of the starts, those that read alike counted once, that read as a prompt that was trained on, in [0, 1];
    None where it is not known what was trained on."""
    overlap_of_decisions: float | None
    """The same share of all decisions of the episodes."""
    success_rate: float | None
    success_ci95: Interval | None
    mean_total_reward: float
    mean_total_reward_ci95: Interval | None
    normalized_score: float | None
    """0 for random play, 1 for optimal play on the same starts; not clipped."""
    normalized_reason: str | None
    """Why `normalized_score` is None."""
    random_score: float | None
    """Mean total reward on the same starts, as are the next two."""
    base_score: float | None
    optimal_score: float | None
    optimal_is_exact: bool
    """`optimal_score` is that of provably optimal play."""
    greedy_success_rate: float | None
    """The same episodes decoded greedily; None where no model played."""
    greedy_mean_total_reward: float | None
    game_metrics: dict[str, float]
    valid_action_rate: float
    mean_length: float
    ends: dict[str, int]
    smallest_detectable_difference: float | None
    """In success rate; in total reward where the game declares no success."""
    sampling: dict[str, Any]
    training_sampling: dict[str, Any] | None
    wall_seconds: float
    overridden: dict[str, Any] | None = None
    """Of a checkpoint: what the command line changed of its own prompt, model and answers, {key: [own, now]}."""
    usage: dict[str, Any] | None = None
    """Model, requests, tokens and cost where a server was asked; None where none was."""
    illegal_action_rate: float | None = None
    """Share of answers that held an action which is no move of the state; None, and not in the JSON, where all are."""
    seats: tuple[str, ...] = ()
    """Of several players: who sat where on the first start, moved on by one from start to start."""

    def to_json(self) -> dict[str, Any]:
        """As strict JSON: lists for tuples, None for numbers that are not finite."""
        found = {name: _strict(value) for name, value in asdict(self).items()}
        if self.illegal_action_rate is None:
            del found["illegal_action_rate"]
        if not self.seats:
            del found["seats"]
        return found


def evaluation(
    *,
    env: str,
    policy: str,
    checkpoint: str | None,
    episodes: Sequence[Episode],
    random_episodes: Sequence[Episode] | None,
    optimal_is_exact: bool,
    seeds: tuple[int, int],
    split: str,
    not_held_out: Sequence[str] = (),
    overlap: Overlap | None,
    sampling: Mapping[str, Any],
    training_sampling: Mapping[str, Any] | None,
    wall_seconds: float,
    greedy_episodes: Sequence[Episode] | None = None,
    optimal_episodes: Sequence[Episode] | None = None,
    optimal_score: float | None = None,
    base_episodes: Sequence[Episode] | None = None,
    seats: tuple[str, ...] = (),
) -> Evaluation:
    """Score `episodes` beside those of other players on the same starts.

    A known `optimal_score` (expected total reward per episode) stands above `optimal_episodes`. Where `base_episodes`
    have the same starts in the same order, the smallest detectable difference is that of the pairs.
    Raises ValueError where a given set of episodes is empty.
    """
    own = score(episodes)
    greedy = None if greedy_episodes is None else score(greedy_episodes)
    random_score = _mean_total_reward(random_episodes)
    if optimal_score is None:
        optimal_score = _mean_total_reward(optimal_episodes)
    normalized, reason = normalized_score(own.mean_total_reward, random_score, optimal_score)
    return Evaluation(
        env=env,
        policy=policy,
        checkpoint=checkpoint,
        episodes=own.episodes,
        distinct_initial_states=own.distinct_initial_states,
        distinct_initial_texts=own.distinct_initial_texts,
        seeds=seeds,
        split=split,
        not_held_out=tuple(not_held_out),
        overlap_with_training=overlap.starts if overlap else None,
        overlap_of_decisions=overlap.decisions if overlap else None,
        success_rate=own.success_rate,
        success_ci95=own.success_ci95,
        mean_total_reward=own.mean_total_reward,
        mean_total_reward_ci95=own.mean_total_reward_ci95,
        normalized_score=normalized,
        normalized_reason=reason,
        random_score=random_score,
        base_score=_mean_total_reward(base_episodes),
        optimal_score=optimal_score,
        optimal_is_exact=optimal_is_exact,
        greedy_success_rate=None if greedy is None else greedy.success_rate,
        greedy_mean_total_reward=None if greedy is None else greedy.mean_total_reward,
        game_metrics=own.game_metrics,
        valid_action_rate=own.valid_action_rate,
        mean_length=own.mean_length,
        ends=own.ends,
        smallest_detectable_difference=_detectable(episodes, base_episodes),
        sampling=dict(sampling),
        training_sampling=None if training_sampling is None else dict(training_sampling),
        wall_seconds=wall_seconds,
        illegal_action_rate=own.illegal_action_rate,
        seats=seats,
    )


def _successes(episodes: Sequence[Episode]) -> list[bool] | None:
    """Shape (E,); None where an episode declares no success."""
    wins = [episode.success for episode in episodes if episode.success is not None]
    return wins if len(wins) == len(episodes) else None


def _results(episodes: Sequence[Episode]) -> list[float]:
    """What is compared: success where declared, total reward elsewhere; shape (E,)."""
    wins = _successes(episodes)
    return [episode.total_reward for episode in episodes] if wins is None else [float(win) for win in wins]


def _detectable(played: Sequence[Episode], base_played: Sequence[Episode] | None) -> float | None:
    episodes, base_episodes = pairs(played), None if base_played is None else pairs(base_played)
    same_starts = base_episodes is not None and [(base.start.seed, base.seat) for base in base_episodes] == [
        (episode.start.seed, episode.seat) for episode in episodes
    ]
    paired = _results(base_episodes) if base_episodes is not None and same_starts else None
    return smallest_detectable_difference(_results(episodes), paired)


def _mean_total_reward(episodes: Sequence[Episode] | None) -> float | None:
    return None if episodes is None else score(episodes).mean_total_reward


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value
