"""One rollout phase: which episodes an update plays, what each was worth, and which of them are trained on.

Knows groups, episodes, advantages and draws. Knows nothing about tokens, models, losses or files.

Of games of several players (episode, seat) pairs stand where episodes do: those of the seats where `self` sits. A group
is then that of one seat, of the members in which it came to decide.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from msgrpo_cli.algo.advantage import by_group, equal_rewards
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
from msgrpo_cli.episode import Episode, Start, Step, illegal_rate, pairs
from msgrpo_cli.games.core import TextMediatedStochasticGame
from msgrpo_cli.games.guard import AT_START, GameError, blaming

from .play import GameFactory, Judge, PlayEpisodes, PlayRules, Policy, play_episodes
from .seating import Seating
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
    seating: Seating | None = None
    """Who sits where in a game of several players; None: `self` everywhere."""


@dataclass(frozen=True)
class PlayedUpdate:
    """The episodes of one update with their advantages, group by group."""

    update: int
    episodes: tuple[Episode, ...]
    """Of several players the pairs of the seats where `self` sits."""
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
    of_several: tuple[Episode, ...] = ()
    """Of several players: the episodes as they were played, with the steps of all seats."""

    @property
    def whole(self) -> tuple[Episode, ...]:
        """The episodes as they were played."""
        return self.of_several or self.episodes

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
        key = (rules.seed, update, group)
        seed = keyed_seed(game, "train", key)
        number = (update - 1) * rules.groups_per_update + group
        seats = rules.seating.of(number, key) if rules.seating and game.players > 1 else ()
        starts += [Start(seed, group, member, (*key, member), seats) for member in range(rules.group_size)]
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
    trained, group_E = trained_pairs(episodes, rules.group_size)
    if not trained:
        raise GameError(f"game {play_rules.env}: in no episode of update {update} a seat of self came to decide")
    reward_E = np.array([episode.total_reward for episode in trained])
    advantages = step_advantages(trained, group_E, rules.credit, rules.credit_rules)
    draw = draw_episodes(
        means([np.abs(advantage_T) for advantage_T in advantages]),
        group_E,
        rules.episode_sampling,
        generator((rules.seed, update, "draw")),
        fraction=rules.sample_fraction,
        exponent=rules.sampling_exponent,
        scope=rules.sampling_scope,
        correction=rules.sampling_correction,
        reward_E=reward_E,
    )
    return PlayedUpdate(
        update=update,
        episodes=tuple(trained),
        advantages=advantages,
        draw=draw,
        zero_advantage_groups=float(equal_rewards(by_group(reward_E, group_E)).mean()),
        seconds=time.perf_counter() - began,
        mixed=mixed,
        success_declared=success_declared,
        of_several=tuple(episodes) if game.players > 1 else (),
    )


def trained_pairs(episodes: Sequence[Episode], group_size: int) -> tuple[list[Episode], np.ndarray]:
    """What may be trained on of episodes that stand group by group, and the number of each one's group, from 0.

    Of one player the episodes themselves. Of several the pairs of every seat where `self` sits: of group 0 those of its
    first such seat, then those of the next; a group is one of the episodes' groups as one seat saw it.
    """
    found: list[Episode] = []
    numbers: dict[tuple[int, int | None], int] = {}
    groups: list[int] = []
    for first in range(0, len(episodes), group_size):
        members = sorted(pairs(episodes[first : first + group_size]), key=lambda pair: pair.seat or 0)
        found += members
        groups += [numbers.setdefault((first, pair.seat), len(numbers)) for pair in members]
    return found, np.array(groups, dtype=np.int64)


def _equal_groups(episodes: Sequence[Episode], group_size: int) -> int:
    """How many groups tell nothing: of several players, to no seat of `self`."""
    telling = 0
    for first in range(0, len(episodes), group_size):
        members, group_E = trained_pairs(episodes[first : first + group_size], group_size)
        rewards = by_group(np.array([pair.total_reward for pair in members]), group_E) if members else []
        telling += not all(equal_rewards(rewards))
    return len(episodes) // group_size - telling


def _groups_to_play(episodes: Sequence[Episode], rules: UpdateRules) -> Iterable[range]:
    """All groups at once; then, where the sampling replays, as many more as had equal rewards, up to `most_groups`."""
    played = rules.groups_per_update
    yield range(played)
    replays = EPISODE_SAMPLINGS[rules.episode_sampling].replays
    while replays and played < rules.most_groups:
        missing = rules.groups_per_update - (played - _equal_groups(episodes, rules.group_size))
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

    Of a mixture, some of them once more for each game that was played, as `<name>/<game>`; of several players for each
    seat where `self` sat, as `<name>/seat<number>`.
    """
    of_each: dict[str, float | int | None] = {}
    if played.mixed:
        for game in sorted({episode.env for episode in played.episodes}):
            numbers = [number for number, episode in enumerate(played.episodes) if episode.env == game]
            of_each |= {f"{name}/{game}": value for name, value in _of_part(played, numbers, "episodes").items()}
    for seat in sorted({episode.seat for episode in played.episodes if episode.seat is not None}):
        numbers = [number for number, episode in enumerate(played.episodes) if episode.seat == seat]
        of_each |= {f"{name}/seat{seat}": value for name, value in _of_part(played, numbers, "pairs").items()}
    return {**_of_all(played), **of_each}


def _of_part(played: PlayedUpdate, numbers: Sequence[int], counted: str) -> dict[str, float | int | None]:
    """Of the episodes of one game, or the pairs of one seat."""
    episodes = [played.episodes[number] for number in numbers]
    won = [episode.success for episode in episodes if episode.success is not None]
    drawn = [played.draw.drawn_E[number] for number in numbers]
    steps = [step for episode in episodes for step in episode.steps]
    return {
        "total_reward": float(np.mean([episode.total_reward for episode in episodes])),
        "success_rate": float(np.mean(won)) if won else None,
        "episode_length": len(steps) / len(episodes),
        **_answers(steps),
        f"{counted}_played": len(episodes),
        f"{counted}_drawn": int(sum(drawn)),
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
        "total_reward_std": float(rewards.std(ddof=1)) if len(rewards) > 1 else 0.0,
        "success_rate": float(np.mean(won)) if played.success_declared and len(won) == len(episodes) else None,
        "episode_length": len(steps) / len(episodes),
        **_answers(steps),
        "truncated_completion_rate": sum(step.completion.truncated for step in steps) / len(steps),
        "zero_advantage_groups": played.zero_advantage_groups,
        "zero_advantage_episodes": float((absolute_E == 0).mean()),
        "episodes_played": len(played.whole),
        "episodes_drawn": int(drawn_E.sum()),
        **_of_several(played),
        "steps_played": len(steps),
        "effective_sample_size": effective_sample_size(absolute_E),
        "abs_advantage_pool": float(absolute_E.mean()),
        "abs_advantage_drawn": float(absolute_E[drawn_E].mean()) if any_drawn else None,
        "advantage_drawn": float(advantage_E[drawn_E].mean()) if any_drawn else None,
    }


def _of_several(played: PlayedUpdate) -> dict[str, float | int | None]:
    """Of several players alone: an episode counts as drawn where one of its pairs is."""
    if not played.of_several:
        return {}
    starts = [(pair.start.group, pair.start.member) for pair in played.episodes]
    return {
        "episodes_drawn": len({starts[number] for number in np.flatnonzero(played.draw.drawn_E)}),
        "pairs_played": len(starts),
        "pairs_drawn": int(played.draw.drawn_E.sum()),
    }
