"""How an update is shared out among processes, and what they send each other.

Knows counts and bytes. Knows nothing about configs, models or devices. `training/parallel` deals out whole groups, and
as many micro-batches to one process as to another; `tests/planning/test_shares.py` holds this against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_STEP, _ANSWERED, _PROMPTED = 150, 13, 4
"""Bytes of a pickled step beside its tokens, of a token of an answer with its log-probability, of a prompt's token;
measured: 194 of a step on Frozen Lake and 362 in Snake with `tiny`, 691 of prompts of 759 tokens that often repeat."""


def most(units: int, processes: int) -> int:
    """Of so many units that are dealt out whole, those of the process that has most: the others wait for it."""
    return math.ceil(units / processes)


def longest_share(units: float, processes: int) -> float:
    """The same, as a part of all."""
    whole = max(1, math.ceil(units))
    return most(whole, processes) / whole


def dealt(groups: int, processes: int) -> str:
    """Who plays how many groups of an update."""
    few, more = divmod(groups, processes)
    if not more:
        return f"each plays {few} of an update's {groups} groups"
    who = f"ranks 0 to {more - 1} play {few + 1}" if more > 1 else f"rank 0 plays {few + 1}"
    return f"of an update's {groups} groups {who}, every other rank {few or 'none'}"


@dataclass(frozen=True)
class Sent:
    """Bytes that each process sends in an update."""

    gradients: int
    """Summed around the ring: every process passes all of them on, but for its own part, and then the sums, unless each
    keeps those of its part alone."""
    episodes: int
    """Every process gets all of them."""
    weights: int = 0
    """That are shared out: gathered around the ring."""

    @property
    def total(self) -> int:
        return self.gradients + self.episodes + self.weights


def sent(gradients: float, steps: int, episodes: float, processes: int) -> Sent:
    """`gradients`: bytes of them, summed at each of `steps` optimizer steps; `episodes`: bytes of all of them."""
    others = (processes - 1) / processes
    return Sent(round(2 * others * gradients * steps), round(others * episodes))


@dataclass(frozen=True)
class Gathered:
    """How often an update gathers weights that are shared out; bytes are those of all processes together."""

    weights: float
    in_layers: float
    """Of these: gathered once more on the way back. What lies around the layers stays from one to the other."""
    gradients: float
    """Each process keeps the sums of its part."""
    forward: int
    """Passes of the model over a micro-batch, those that are only read among them."""
    backward: int
    played: float
    """Rollouts and evaluations; these come less often than once an update."""
    on_cpu: bool = False
    """gloo, which CPUs talk by, knows no other sum than the whole one on every process."""


def sent_of_parts(asked: Gathered, episodes: float, processes: int) -> Sent:
    """The same where weights, gradients and the optimizer's numbers are shared out: every backward pass sums.

    Counted of torch's gathers, and by the kernel (experiments/parallel)."""
    others = (processes - 1) / processes
    weights = asked.weights * (asked.forward + asked.played) + asked.in_layers * asked.backward
    gradients = asked.gradients * asked.backward * (2 if asked.on_cpu else 1)
    return Sent(round(others * gradients), round(others * episodes), round(others * weights))


def episode_bytes(decisions: float, prompt_tokens: float, answer_tokens: float) -> float:
    """Of so many decisions, as they are sent; tokens are those of one. A prompt that repeats is sent once."""
    return decisions * (_STEP + _PROMPTED * prompt_tokens + _ANSWERED * answer_tokens)
