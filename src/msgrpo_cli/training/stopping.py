"""Whether a run has collapsed, or has reached what was wanted, told from its metrics alone.

Knows rows of metrics.jsonl and arithmetic. Knows nothing about files, models or how training stops.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np

from msgrpo_cli.config.schema import StopConfig

_SHARE = 0.5
"""Of the gain in total reward since the first window, that a collapse loses."""
FALSE_ALARMS = 0.01
"""Of runs that learn nothing, however long, at most this share is told to have collapsed."""
_TOLD = {
    "entropy": "entropy {0:.3f} -> {1:.3f}",
    "valid_action_rate": "valid actions {0:.0%} -> {1:.0%}",
    "zero_advantage_groups": "groups without signal {0:.0%} -> {1:.0%}",
    "logprob_gap_mean": "log-probability gap {0:.1e} -> {1:.1e}",
    "grad_norm": "gradient norm {0:.2g} -> {1:.2g}",
}


@dataclass(frozen=True)
class Window:
    """Means over so many updates in a row."""

    update: int
    """The last update of the window."""
    reward: float
    variance: float
    """Of the mean total reward between updates, Bessel's correction applied."""
    means: Mapping[str, float | None]


@dataclass
class History:
    """The train rows so far, an update at a time; a window is `size` updates."""

    size: int
    rows: deque[Mapping[str, Any]] = field(default_factory=deque)
    windows: deque[Window] = field(default_factory=deque)
    """The latest windows, which still overlap the present one."""
    first: Window | None = None
    peak: Window | None = None
    """The best window that does not overlap the present one."""
    updates: int = 0
    squares: float = 0.0
    """Sum of the squared differences between the total rewards of neighbouring updates."""

    def add(self, row: Mapping[str, Any]) -> None:
        """One more update."""
        if self.rows:
            self.squares += (float(row["total_reward"]) - float(self.rows[-1]["total_reward"])) ** 2
        self.updates += 1
        self.rows.append(row)
        if len(self.rows) > self.size:
            self.rows.popleft()
        if len(self.rows) == self.size:
            self.windows.append(_window(list(self.rows)))
            self.first = self.first or self.windows[-1]
        if len(self.windows) > self.size:
            left = self.windows.popleft()
            if self.peak is None or left.reward >= self.peak.reward:
                self.peak = left

    def collapse(self) -> str | None:
        """A sentence where the total reward has fallen back: by half of what was gained since the first window, and by
        more than chance allows [ours]. None otherwise.

        Chance: the present window is held against the best of all before, and so at every update: after t updates that
        is nearly t^2 / 2 pairs of windows, of which neighbours hardly differ. Each is allowed a fifth of FALSE_ALARMS /
        t^2 of the normal distribution's tail. A test simulates it with this class. The variance of one update is half
        the mean squared difference between neighbours (von Neumann 1941), over all updates so far, since ten points
        alone would know it too badly, and a slow rise is no noise; or that within the best window, where it is larger,
        for a best that one lucky update made.
        """
        if self.peak is None or self.first is None:
            return None
        now, peak = self.windows[-1], self.peak
        lost = peak.reward - now.reward
        variance = max(self.squares / (2 * (self.updates - 1)), peak.variance)
        bound = -NormalDist().inv_cdf(0.2 * FALSE_ALARMS / self.updates**2)
        chance = bound * math.sqrt(2 * variance / self.size)
        if lost <= max(_SHARE * (peak.reward - self.first.reward), chance):
            return None
        told = [
            text.format(before, after)
            for name, text in _TOLD.items()
            if (before := peak.means[name]) is not None and (after := now.means[name]) is not None
        ]
        return (
            f"total reward fell from {peak.reward:.3f} (updates {peak.update - self.size + 1} to {peak.update}) to "
            f"{now.reward:.3f} (the last {self.size}); meanwhile {', '.join(told)}. {_cause(peak, now)}"
        )


@dataclass
class Stopping:
    """Follows a run's rows and says when it ends before its time; `reason` is None while it goes on."""

    score: float | None
    success: float | None
    on_collapse: bool
    history: History
    reason: str | None = None
    collapsed: bool = False

    @classmethod
    def of(cls, stop: StopConfig, rows: Iterable[Mapping[str, Any]] = ()) -> Stopping:
        """As after these rows of metrics.jsonl, so that a resumed run decides as an uninterrupted one would."""
        stopping = cls(stop.score, stop.success, stop.on_collapse, History(stop.window))
        for row in rows:
            if row["kind"] == "train":
                stopping.after_update(row)
            else:
                stopping.after_evaluation(row, row["update"])
        return stopping

    def after_update(self, row: Mapping[str, Any]) -> str | None:
        """A sentence where the run has just collapsed."""
        self.history.add(row)
        sentence = self.history.collapse()
        news = sentence if not self.collapsed else None
        self.collapsed = sentence is not None
        if news is not None and self.on_collapse:
            self.reason = f"stop.on_collapse: {news}"
        return news

    def after_evaluation(self, scores: Mapping[str, Any], update: int) -> None:
        """An evaluation on validation is known; update 0 is the base, which never ends a run."""
        wanted = (("score", self.score, "mean_total_reward"), ("success", self.success, "success_rate"))
        for key, enough, name in wanted:
            if update and enough is not None and (found := scores.get(name)) is not None and found >= enough:
                self.reason = f"stop.{key}={enough:g} is reached: {found:.3f} on validation"


def _window(rows: list[Mapping[str, Any]]) -> Window:
    rewards = np.array([row["total_reward"] for row in rows])
    return Window(
        update=int(rows[-1]["update"]),
        reward=float(rewards.mean()),
        variance=float(rewards.var(ddof=1)),
        means={name: _mean([row.get(name) for row in rows]) for name in _TOLD},
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _cause(peak: Window, now: Window) -> str:
    """The likeliest reading, from the most specific sign to the least."""
    before, after = peak.means, now.means

    def of(means: Mapping[str, float | None], name: str) -> float:
        value = means[name]
        return math.nan if value is None else value

    if of(after, "valid_action_rate") < 0.9 * of(before, "valid_action_rate"):
        return "The answers lost their form: lower trainer.learning_rate, or raise algo.format_penalty"
    if of(after, "logprob_gap_mean") > max(1e-3, 10 * of(before, "logprob_gap_mean")):
        return "What is trained is no longer what is sampled: look for another precision, or stale weights"
    if of(after, "entropy") < 0.5 * of(before, "entropy"):
        return (
            "The policy became sure of the wrong thing: raise trainer.entropy_coef, set "
            "trainer.use_adaptive_entropy=true with a trainer.entropy_target, or lower trainer.learning_rate"
        )
    if of(after, "entropy") > 2 * of(before, "entropy"):
        return "The policy became random: lower trainer.entropy_coef or trainer.learning_rate"
    if of(after, "grad_norm") > 10 * of(before, "grad_norm"):
        return "The updates became too large: lower trainer.learning_rate, or withhold such steps with guard.grad_norm"
    return "No single sign: lower trainer.learning_rate, or set trainer.beta to stay near the start"
