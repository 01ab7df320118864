"""One rollout phase: which episodes an update plays, what each was worth, and which of them are trained on.

Knows groups, episodes, advantages and draws. Knows nothing about tokens, models, losses or files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from msgrpo_cli.algo.advantage import equal_rewards
from msgrpo_cli.algo.credit import CreditName, CreditRules, step_advantages
from msgrpo_cli.algo.episode_sampling import (
    EPISODE_SAMPLINGS,
    Draw,
    EpisodeSampling,
    SamplingCorrection,
    SamplingScope,
    draw_episodes,
    effective_sample_size,
)
from msgrpo_cli.common.seeding import generator
from msgrpo_cli.episode import Episode, Start, Step, illegal_rate
from msgrpo_cli.games.core import TextMediatedStochasticGame
from msgrpo_cli.games.guard import AT_START, GameError, blaming

from .play import GameFactory, Judge, PlayEpisodes, PlayRules, Policy, play_episodes
from .split import keyed_seed


@dataclass(frozen=True)
class UpdateRules:
    """What every update of a run does."""

    seed: int
    groups_per_update: int
    group_size: int
    credit: CreditName = "episode"
    credit_rules: CreditRules = field(default_factory=CreditRules)
    episode_sampling: EpisodeSampling = "absolute_advantage"
    sample_fraction: float = 0.5
    sampling_exponent: float = 1.0
    sampling_scope: SamplingScope = "update"
    sampling_correction: SamplingCorrection = "none"
    most_groups: int = 0
    """Where groups with equal rewards are replaced by further ones: how many are played at most, all together."""


@dataclass(frozen=True)
class PlayedUpdate:
    """The episodes of one update with their advantages, group by group."""

    update: int
    episodes: tuple[Episode, ...]
    advantages: tuple[np.ndarray, ...]
    """Of every step of every episode; each of shape (T,)."""
    draw: Draw
    zero_advantage_groups: float
    """Share of groups whose total rewards are equal."""
    seconds: float
    mixed: bool = False
    """The episodes come from a mixture of games."""
    success_declared: bool = True
    """Of a mixture: by all of its games, whichever of them were played in this update."""

    @property
    def advantage_E(self) -> np.ndarray:
        """Of each episode: the mean of its steps' advantages, which is theirs where they share one; shape (E,)."""
        return means(self.advantages)

    @property
    def abs_advantage_E(self) -> np.ndarray:
        """Of each episode: the mean absolute advantage of its steps; shape (E,)."""
        return means([np.abs(advantage_T) for advantage_T in self.advantages])

    @property
    def trained(self) -> list[tuple[Episode, np.ndarray]]:
        """The drawn episodes, each with the advantages that the tokens of its steps get (correction included)."""
        draw = self.draw
        of_each = zip(self.episodes, self.advantages, draw.factor_E, draw.drawn_E, strict=True)
        return [(episode, advantage_T * factor) for episode, advantage_T, factor, drawn in of_each if drawn]


def means(advantages: Iterable[np.ndarray]) -> np.ndarray:
    """The mean of each array, and where all of it is one number that very number; shape (E,)."""
    return np.array([values[0] if (values == values[0]).all() else values.mean() for values in advantages])


def starts_of_update(
    game: TextMediatedStochasticGame, rules: UpdateRules, update: int, groups: range | None = None
) -> list[Start]:
    """The initial states of an update, or of some of its groups, each `group_size` times, all of the train part."""
    starts = []
    for group in groups if groups is not None else range(rules.groups_per_update):
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
    *,
    play: PlayEpisodes = play_episodes,
) -> PlayedUpdate:
    """Play the groups of update number `update` (from 1), then compute advantages and draw.

    Everything follows from (rules.seed, update) and the policy's weights, whatever was played before, and however
    `play` shares the work out.
    """
    began = time.perf_counter()
    game = make_game()
    mixed = game.label is not None
    with blaming(play_rules.env, AT_START, 0):
        success_declared = not mixed or game.declares_success()
    episodes: list[Episode] = []
    for groups in _groups_to_play(episodes, rules):
        starts = starts_of_update(game, rules, update, groups)
        episodes += play(starts, make_game, policy, play_rules, judge, on_progress)
    _check_groups(episodes, rules.group_size)
    reward_GK = _rewards(episodes, rules)
    advantages = step_advantages(episodes, rules.group_size, rules.credit, rules.credit_rules)
    draw = draw_episodes(
        means([np.abs(advantage_T) for advantage_T in advantages]).reshape(reward_GK.shape),
        rules.episode_sampling,
        generator((rules.seed, update, "draw")),
        fraction=rules.sample_fraction,
        exponent=rules.sampling_exponent,
        scope=rules.sampling_scope,
        correction=rules.sampling_correction,
        reward_GK=reward_GK,
    )
    return PlayedUpdate(
        update=update,
        episodes=tuple(episodes),
        advantages=advantages,
        draw=draw,
        zero_advantage_groups=float(equal_rewards(reward_GK).mean()),
        seconds=time.perf_counter() - began,
        mixed=mixed,
        success_declared=success_declared,
    )


def _rewards(episodes: Sequence[Episode], rules: UpdateRules) -> np.ndarray:
    return np.array([episode.total_reward for episode in episodes]).reshape(-1, rules.group_size)


def _groups_to_play(episodes: Sequence[Episode], rules: UpdateRules) -> Iterable[range]:
    """All groups at once; then, where the sampling replays, as many more as had equal rewards, up to `most_groups`."""
    played = rules.groups_per_update
    yield range(played)
    replays = EPISODE_SAMPLINGS[rules.episode_sampling].replays
    while replays and played < rules.most_groups:
        equal = equal_rewards(_rewards(episodes, rules))
        missing = rules.groups_per_update - int((~equal).sum())
        if not missing:
            return
        more = range(played, min(rules.most_groups, played + missing))
        played = more.stop
        yield more


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
    """The metrics of an update that the episodes alone decide (names: docs/metrics.md).

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
        **_answers(steps),
        "episodes_played": len(episodes),
        "episodes_drawn": int(sum(drawn)),
    }


def _answers(steps: Sequence[Step]) -> dict[str, float | int | None]:
    """How many held a move; and, where some actions are no moves of some states, how many named such a one."""
    illegal = illegal_rate(steps)
    valid = sum(step.valid for step in steps) / len(steps)
    return {"valid_action_rate": valid, **({} if illegal is None else {"illegal_action_rate": illegal})}


def _of_all(played: PlayedUpdate) -> dict[str, float | int | None]:
    episodes, absolute_E, advantage_E = played.episodes, played.abs_advantage_E, played.advantage_E
    steps = [step for episode in episodes for step in episode.steps]
    rewards = np.array([episode.total_reward for episode in episodes])
    drawn_E = played.draw.drawn_E
    won = [episode.success for episode in episodes if episode.success is not None]
    any_drawn = bool(drawn_E.any())
    return {
        "total_reward": float(rewards.mean()),
        "total_reward_std": float(rewards.std(ddof=1)),
        "success_rate": float(np.mean(won)) if played.success_declared and len(won) == len(episodes) else None,
        "episode_length": len(steps) / len(episodes),
        **_answers(steps),
        "truncated_completion_rate": sum(step.completion.truncated for step in steps) / len(steps),
        "zero_advantage_groups": played.zero_advantage_groups,
        "zero_advantage_episodes": float((absolute_E == 0).mean()),
        "episodes_played": len(episodes),
        "episodes_drawn": int(drawn_E.sum()),
        "steps_played": len(steps),
        "effective_sample_size": effective_sample_size(absolute_E),
        "abs_advantage_pool": float(absolute_E.mean()),
        "abs_advantage_drawn": float(absolute_E[drawn_E].mean()) if any_drawn else None,
        "advantage_drawn": float(advantage_E[drawn_E].mean()) if any_drawn else None,
    }
