"""Credit: which advantage every step of an episode gets, from the rewards of its group.

Knows rewards, groups and which states are the same, as arrays. Knows nothing about games, tokens, models or sampling.
Shape suffixes: S steps of all episodes, one after the other; E episodes, group by group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from msgrpo_cli.episode import Episode

from .advantage import Scale, normalised

CreditName = Literal["episode", "last_reward", "return_to_go", "gigpo", "step"]
BaselineScope = Literal["group", "group_and_time"]


@dataclass(frozen=True)
class CreditRules:
    """What a credit may be told; which of it each credit reads is said by `CREDITS`."""

    scale: Scale = "group"
    """By which standard deviation advantages are divided."""
    gamma: float = 1.0
    """Discount of later rewards in G_t = sum over k >= t of gamma^(k-t) r_k."""
    baseline_scope: BaselineScope = "group"
    """The steps whose G_t are compared: all of the group, or those of the group at the same t."""
    step_weight: float = 1.0
    """w: how much the comparison of equal states adds."""
    step_scale: Literal["group", "none"] = "none"
    """Whether that comparison is divided by its own standard deviation."""


@dataclass(frozen=True)
class Rewards:
    """The rewards of an update's steps, and what each step belongs to."""

    reward_S: np.ndarray
    """As trained, penalties included; float64."""
    episode_S: np.ndarray
    """Number of the step's episode, ascending."""
    time_S: np.ndarray
    """Number of the step within its episode, from 0."""
    state_S: np.ndarray
    """Equal numbers stand for identical states."""
    group_E: np.ndarray
    """Number of each episode's group."""

    @property
    def group_S(self) -> np.ndarray:
        return np.asarray(self.group_E[self.episode_S])

    @property
    def total_E(self) -> np.ndarray:
        """Total reward of each episode."""
        return np.bincount(self.episode_S, self.reward_S)

    def to_go(self, gamma: float) -> np.ndarray:
        """G_t, shape (S,)."""
        to_go_S = self.reward_S.astype(np.float64)
        for step in range(len(to_go_S) - 2, -1, -1):
            if self.episode_S[step] == self.episode_S[step + 1]:
                to_go_S[step] += gamma * to_go_S[step + 1]
        return to_go_S


def rewards_of(episodes: Sequence[Episode], groups: int | np.ndarray) -> Rewards:
    """The rewards of episodes that stand group by group.

    `groups`: the one size of them, or the number of each episode's group. Of games of several players these are
    (episode, seat) pairs, and a group holds those of one seat.
    """
    states: dict[bytes, int] = {}
    steps = [
        (step.reward, number, t, states.setdefault(step.state_key, len(states)))
        for number, episode in enumerate(episodes)
        for t, step in enumerate(episode.steps)
    ]
    reward, episode, time, state = zip(*steps, strict=True)
    return Rewards(
        np.array(reward, dtype=np.float64),
        np.array(episode),
        np.array(time),
        np.array(state),
        np.arange(len(episodes)) // groups if isinstance(groups, int) else groups,
    )


def episode_credit(rewards: Rewards, rules: CreditRules) -> np.ndarray:
    """A_t = group-normalised total reward, the same for every step: MS-GRPO, arXiv 2508.10839."""
    of_each_E = normalised(rewards.total_E, rewards.group_E, rules.scale)
    return np.asarray(of_each_E[rewards.episode_S])


def last_reward_credit(rewards: Rewards, rules: CreditRules) -> np.ndarray:
    """A_t = group-normalised reward of the last step, penalty included: Trinity-RFT's multi-step GRPO."""
    last_E = rewards.reward_S[np.flatnonzero(np.diff(rewards.episode_S, append=-1))]
    return np.asarray(normalised(last_E, rewards.group_E, rules.scale)[rewards.episode_S])


def return_to_go_credit(rewards: Rewards, rules: CreditRules) -> np.ndarray:
    """A_t = G_t against the steps of the group, all of them or those at the same t: the classic reward to go."""
    pool_S = rewards.group_S
    if rules.baseline_scope == "group_and_time":
        pool_S = _pairs(pool_S, rewards.time_S)
    return normalised(rewards.to_go(rules.gamma), pool_S, rules.scale)


def gigpo_credit(rewards: Rewards, rules: CreditRules) -> np.ndarray:
    """A_t = A_e + w (G_t - its mean over the group's steps in an identical state): GiGPO, arXiv 2505.10978.

    A state that an episode visits twice counts twice; a state that nothing else visits adds 0. With `step_scale` the
    comparison is also divided by its standard deviation.
    """
    same_S = _pairs(rewards.group_S, rewards.state_S)
    within_S = normalised(rewards.to_go(rules.gamma), same_S, rules.step_scale)
    return episode_credit(rewards, rules) + rules.step_weight * within_S


def step_credit(rewards: Rewards, rules: CreditRules) -> np.ndarray:
    """A_t = r_t against all steps of the group: what comes later is ignored, a control that is known to be weak."""
    return normalised(rewards.reward_S, rewards.group_S, rules.scale)


def _pairs(first_S: np.ndarray, second_S: np.ndarray) -> np.ndarray:
    """One number for every pair."""
    return np.asarray(first_S * (int(second_S.max()) + 1) + second_S)


@dataclass(frozen=True)
class Credit:
    """One way of giving credit."""

    advantages: Callable[[Rewards, CreditRules], np.ndarray]
    """Shape (S,)."""
    own: Mapping[str, float | str]
    """The rules beside `scale` that it reads, with the values that hold where none is given."""

    def rules(self, scale: Scale, **given: float | str | None) -> CreditRules:
        """Its own values, but for those that are given. Raises ValueError for one that it does not read."""
        asked = {name: value for name, value in given.items() if value is not None}
        if unread := sorted(asked.keys() - self.own.keys()):
            raise ValueError(unread[0])
        return replace(CreditRules(scale), **{**self.own, **asked})  # type: ignore[arg-type]


CREDITS: dict[CreditName, Credit] = {
    "episode": Credit(episode_credit, {}),
    "last_reward": Credit(last_reward_credit, {}),
    "return_to_go": Credit(return_to_go_credit, {"gamma": 1.0, "baseline_scope": "group"}),
    "gigpo": Credit(gigpo_credit, {"gamma": 0.95, "step_weight": 1.0, "step_scale": "none"}),
    "step": Credit(step_credit, {}),
}


def step_advantages(
    episodes: Sequence[Episode], groups: int | np.ndarray, credit: CreditName, rules: CreditRules
) -> tuple[np.ndarray, ...]:
    """The advantage of every step of every episode: one float64 array of shape (T,) for each episode.

    `groups` as in `rewards_of`.
    """
    rewards = rewards_of(episodes, groups)
    advantage_S = CREDITS[credit].advantages(rewards, rules)
    return tuple(np.split(advantage_S, np.flatnonzero(np.diff(rewards.episode_S)) + 1))
