"""From drawn episodes to training rows: one row per step, weighed, and cut into micro-batches.

Knows token ids, advantages and lengths. Knows nothing about games, models or TRL.
Shape suffix: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from msgrpo_cli.episode import Episode

LengthNormalization = Literal["token", "step", "episode", "constant"]


@dataclass(frozen=True, slots=True)
class Row:
    """One step of a drawn episode, as the trainer sees it."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    """The ids as sampled, the end-of-turn token included."""
    logprobs: tuple[float, ...]
    """Log-probabilities under the sampling distribution, one per completion token."""
    advantage: float
    """The step's advantage, times the drawing correction of its episode."""
    episode: int
    """Number of the episode among the drawn ones."""
    truncated: bool = False
    """The answer was cut at the limit of tokens: it ends with none of its conversation's ends."""

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


def step_rows(trained: Sequence[tuple[Episode, np.ndarray]]) -> list[Row]:
    """Every step of every drawn episode, once, with its own advantage, which all of its tokens get."""
    return [
        Row(
            step.completion.prompt_ids,
            step.completion.token_ids,
            step.completion.logprobs,
            float(advantage),
            number,
            step.completion.truncated,
        )
        for number, (episode, advantage_T) in enumerate(trained)
        for step, advantage in zip(episode.steps, advantage_T, strict=True)
    ]


def weighed_rows(
    rows: Sequence[Row], normalization: LengthNormalization, max_new_tokens: int, *, mask_truncated: bool = False
) -> tuple[list[Row], np.ndarray]:
    """The rows that are trained on, and w_i times sum L for each: what its advantage is multiplied by before TRL's
    `dapo` loss divides by sum L.

    With L_i tokens in row i, N rows, E episodes, T_e steps in episode e [ours]: `token` w = 1 / sum L,
    `step` w = 1 / (N L_i), `episode` w = 1 / (E T_e L_i), `constant` w = 1 / (N max_new_tokens) (Dr. GRPO).
    With `mask_truncated` rows that are `truncated` are left out, which is what TRL's mask comes to: sum L is then over
    the rows that are left, while N, E and T_e count all of them, as in TRL's own losses.
    """
    if not rows:
        return [], np.ones(0)
    length_N = np.array([len(row.completion_ids) for row in rows], dtype=np.float64)
    trained_N = np.array([not (mask_truncated and row.truncated) for row in rows])
    total = length_N[trained_N].sum()
    if normalization == "token":
        factor_N = np.ones(len(rows))
    elif normalization == "step":
        factor_N = total / (len(rows) * length_N)
    elif normalization == "constant":
        factor_N = np.full(len(rows), total / (len(rows) * max_new_tokens))
    else:
        episode_N = np.array([row.episode for row in rows])
        steps_E = np.bincount(episode_N)
        factor_N = total / (len(steps_E) * steps_E[episode_N] * length_N)
    return [row for row, trained in zip(rows, trained_N, strict=True) if trained], factor_N[trained_N]


def deal(count: int, parts: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Deal `count` rows into `parts` optimizer steps, in random order; row numbers, sizes differ by at most one."""
    order = rng.permutation(count) if parts > 1 else np.arange(count)
    return np.array_split(order, parts)


def micro_batches(numbers: np.ndarray, rows: Sequence[Row], most_rows: int, *, shared: bool) -> list[list[int]]:
    """Cut rows into as few micro-batches of at most `most_rows` as possible, alike in length within each.

    Where beginnings are `shared`, rows that begin alike stand together instead, and rows that are equal count once,
    since the model reads both once. Every row number is in exactly one micro-batch; whichever holds the longest row
    comes first, so that memory runs out early or never.
    """
    return shared_out(numbers, rows, most_rows, shared=shared, ranks=1)[0]


def shared_out(
    numbers: np.ndarray, rows: Sequence[Row], most_rows: int, *, shared: bool, ranks: int
) -> list[list[list[int]]]:
    """The micro-batches of each of several processes, the same number for each; there are empty ones where there are
    fewer rows than that. Otherwise as `micro_batches`."""
    if not len(numbers):
        return [[] for _ in range(ranks)]

    def place(number: int) -> tuple[object, ...]:
        row = rows[number]
        if shared:
            return row.prompt_ids, row.completion_ids
        return -row.length, number

    kinds: dict[tuple[object, ...], list[int]] = {}
    for number in sorted(map(int, numbers)):
        kinds.setdefault(place(number), []).append(number)
    in_order = [kinds[kind] for kind in sorted(kinds)]
    of_each = -(-len(in_order) // (most_rows * ranks))
    parts = np.array_split(np.arange(len(in_order)), of_each * ranks)
    batches = [[number for kind in part for number in in_order[kind]] for part in parts]

    def longest(batch: list[int]) -> int:
        return max((rows[number].length for number in batch), default=0)

    return [sorted(batches[rank * of_each :][:of_each], key=lambda batch: -longest(batch)) for rank in range(ranks)]


def times_read(rows: Sequence[Row], *, shared: bool) -> int:
    """How many rows the model reads: equal ones once where they are `shared`."""
    return len({(row.prompt_ids, row.completion_ids) for row in rows}) if shared else len(rows)
