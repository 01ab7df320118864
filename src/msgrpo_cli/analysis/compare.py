"""Two runs' best checkpoints on the very same episodes: effect, interval, p-value, smallest detectable difference.

Knows paired episodes and statistics. Knows nothing about files, models, games or terminals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from msgrpo_cli.common.files import strict
from msgrpo_cli.common.numbers import counted
from msgrpo_cli.common.statistics import Interval, bootstrap_interval, smallest_detectable_difference
from msgrpo_cli.errors import UsageError
from msgrpo_cli.runs.reader import RunData, differences, finite, flat, read_run, written

from .pairing import Stored, paired, same_evaluation

SCHEMA = 1
LEVEL = 0.05
_FLIPS = 9999
_SAME = 1e-9
Verdict = Literal["first is better", "second is better", "no difference found"]


@dataclass(frozen=True)
class Effect:
    """One measure of both, and how far apart they are."""

    measure: str
    means: tuple[float, float]
    """Of the first and of the second, over the episodes."""
    effect: float
    """The second minus the first."""
    ci95: Interval | None
    """Bootstrap over pairs of episodes; None where none shows a difference, or where all show the same."""
    p_value: float
    smallest_detectable_difference: float | None
    first_better: int
    second_better: int
    equal: int
    """Episodes; those that are not equal decide the p-value."""
    verdict: Verdict


@dataclass(frozen=True)
class Side:
    """One of the two."""

    run: str
    checkpoint: str
    evaluation: str
    """The file that was read, below the run."""


@dataclass(frozen=True)
class PairedComparison:
    """What `msgrpo compare` says."""

    first: Side
    second: Side
    env: str
    split: str
    episodes: int
    distinct_initial_states: int
    total_reward: Effect
    success: Effect | None
    """None where the game declares no success."""
    differences: Mapping[str, tuple[str, str]]
    """Of the two configs; `-` where one has no such key."""

    def to_json(self) -> dict[str, Any]:
        """As strict JSON, the effect on the total reward at the top."""
        data = asdict(self)
        effect = data.pop("total_reward")
        found = strict({"schema": SCHEMA, **effect, **data})
        assert isinstance(found, dict)
        return found


def compare_runs(first: Path, second: Path) -> PairedComparison:
    """Pair the episodes of two finished runs. Raises UsageError where they did not play the same evaluation."""
    runs = (read_run(first), read_run(second))
    for run in runs:
        if not run.counts:
            why = f" ({run.excuse})" if run.excuse else ""
            raise UsageError(f"{run.path}: {run.standing}{why}: only runs that are done are compared")
    evaluations = same_evaluation(*runs)
    pairs = paired(runs, evaluations)
    starts = [(env, state_key) for env, _, state_key, _ in pairs]
    rewards = _columns([(finite(a.get("total_reward")), finite(b.get("total_reward"))) for a, b in pairs.values()])
    wins = [(a.get("success"), b.get("success")) for a, b in pairs.values()]
    declared = all(isinstance(won, bool) for pair in wins for won in pair)
    configs = [flat({k: v for k, v in run.config.items() if k not in ("schema", "note")}) for run in runs]
    said = evaluations[0].said
    return PairedComparison(
        first=_side(runs[0], evaluations[0]),
        second=_side(runs[1], evaluations[1]),
        env=str(said["env"]),
        split=str(said["split"]),
        episodes=len(pairs),
        distinct_initial_states=len(set(starts)),
        total_reward=effect_of("total reward", *rewards),
        success=effect_of("success", *_columns(wins)) if declared else None,
        differences={
            key: (written(a) if key in configs[0] else "-", written(b) if key in configs[1] else "-")
            for key, (a, b) in sorted(differences(configs).items())
        },
    )


def effect_of(measure: str, first: Sequence[float], second: Sequence[float]) -> Effect:
    """How far `second` lies above `first`; both have shape (E,), one entry for each episode that both played."""
    apart = [b - a for a, b in zip(first, second, strict=True)]
    low, high = bootstrap_interval(apart)
    p_value = sign_flip_p(apart)
    effect = sum(apart) / len(apart)
    verdict: Verdict = "no difference found"
    if p_value < LEVEL:
        verdict = "second is better" if effect > 0 else "first is better"
    return Effect(
        measure=measure,
        means=(sum(first) / len(first), sum(second) / len(second)),
        effect=effect,
        ci95=(low, high) if high - low >= _SAME else None,
        p_value=p_value,
        smallest_detectable_difference=smallest_detectable_difference(second, first),
        first_better=sum(value < -_SAME for value in apart),
        second_better=sum(value > _SAME for value in apart),
        equal=sum(abs(value) <= _SAME for value in apart),
        verdict=verdict,
    )


def sign_flip_p(apart: Sequence[float]) -> float:
    """Two-sided p-value of a paired permutation test of a sum (Fisher 1935); `apart`, shape (E,), one for each pair.

    Were the two players alike, a difference would be as likely with the other sign. Chosen over Wilcoxon's test, which
    drops ties and is about ranks, where most rewards are equal and their mean is asked for, and over the t test, since
    few pairs decide and differences of successes are -1, 0 or 1. All flips where there are no more than 9999, else as
    many drawn ones, the same each time.
    """
    moving = np.array([value for value in apart if abs(value) > _SAME])  # a zero has no sign to flip
    if len(moving) < 2:  # of one pair both signs are as far from 0
        return 1.0
    from scipy.stats import permutation_test

    found = permutation_test(
        (moving,), np.sum, permutation_type="samples", vectorized=True, n_resamples=_FLIPS, batch=500, rng=0
    )
    return float(found.pvalue)


def smallest_p(differing: int) -> float:
    """Of so many pairs that differ: two of their 2^n flips are as far from 0, were all of one size and sign."""
    return min(1.0, 2.0 ** (1 - differing))


def warnings_on(effect: Effect) -> list[str]:
    """What a reader might trip over."""
    n = effect.first_better + effect.second_better
    if smallest_p(n) >= LEVEL:  # which the sentence tells
        return []
    excluded = effect.ci95 is not None and not effect.ci95[0] <= 0 <= effect.ci95[1]
    if excluded == (effect.p_value < LEVEL):
        return []
    return [
        f"Interval and p-value disagree: {n} episodes decide. The verdict follows the p-value, which holds for any "
        "number of them; the interval needs many."
    ]


def sentence(found: PairedComparison) -> str:
    """The verdict in one sentence."""
    effect = found.total_reward
    p = f"p = {effect.p_value:.2g}" if effect.p_value >= 0.001 else "p < 0.001"
    if effect.verdict == "no difference found":
        return f"No difference found in total reward ({p}); {_power(effect)}."
    better, worse = ("B", "A") if effect.verdict == "second is better" else ("A", "B")
    return f"{better} scores {abs(effect.effect):.3f} more total reward an episode than {worse} ({p})."


def _power(effect: Effect) -> str:
    """What a comparison that found nothing could have found."""
    n = effect.first_better + effect.second_better
    if n == 0:
        return "in every episode both score alike"
    if (least := smallest_p(n)) >= LEVEL:
        return (
            f"{n} of {counted(n + effect.equal, 'episode')} {'differs' if n == 1 else 'differ'}, and even if all "
            f"agreed, p could not be below {least:.2g}: so few show no difference at 5 %, however large; take more "
            "episodes"
        )
    return f"80 % of such comparisons would show one of {effect.smallest_detectable_difference:.3f} or more"


def _columns(pairs: Sequence[tuple[Any, Any]]) -> tuple[list[float], list[float]]:
    return [float(a) for a, _ in pairs], [float(b) for _, b in pairs]


def _side(run: RunData, stored: Stored) -> Side:
    return Side(str(run.path.absolute()), str(stored.said.get("checkpoint")), f"eval/{stored.name}.json")
