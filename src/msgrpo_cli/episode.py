"""What one played episode leaves behind, as frozen records.

Knows completions, steps and episodes. Knows nothing about models, games, files or training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgrpo_cli.common.seeding import Key


@dataclass(frozen=True, slots=True)
class Start:
    """One episode that is to be played."""

    seed: int
    """Seed of the initial state, hidden parts included; members of a group share it."""
    group: int
    """Number of the group within its update, or of the episode within its evaluation."""
    member: int
    """Number of the episode within its group."""
    key: Key
    """Names the randomness of everything after the initial state."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a policy."""

    text: str
    """Decoded answer up to the end of its turn."""
    action: str | None
    """The action that the parser found, or None: invalid. Of a step, None too where it was no move of the state."""
    prompt_ids: tuple[int, ...] = ()
    """Token ids of the prompt; empty where no language model answered."""
    token_ids: tuple[int, ...] = ()
    """Sampled token ids, the end-of-turn token included; what training sees."""
    logprobs: tuple[float, ...] = ()
    """Log-probability of each sampled token (nats) under the distribution it was sampled from."""
    truncated: bool = False
    """The token limit ended the answer."""


@dataclass(frozen=True, slots=True)
class Step:
    """One decision and what came of it."""

    observation: str
    completion: Completion
    action: str | None
    """The action played; None where the game was not stepped."""
    reward: float
    """Reward of this step, the format penalty already subtracted."""
    state_key: bytes
    """The state in which the decision was taken."""
    optimal_action: str | None = None
    regret: float | None = None
    """Expected total reward lost against the best action (game rewards); None where unknown."""
    illegal: bool | None = None
    """Whether the completion, invalid then, held an action of the game that is no move of this state; None where all
    actions are moves of all states."""

    @property
    def valid(self) -> bool:
        """Whether the completion held a move of this state."""
        return self.completion.action is not None


def illegal_rate(steps: Sequence[Step]) -> float | None:
    """Share of steps whose answer named an action that is no move of the state; None where all always are."""
    known = [step.illegal for step in steps if step.illegal is not None]
    return sum(known) / len(steps) if known else None


@dataclass(frozen=True, slots=True)
class Episode:
    """One game from start to end."""

    env: str
    start: Start
    steps: tuple[Step, ...]
    terminated: bool
    """The game ended by its own rules."""
    truncated: bool
    """The step limit ended it."""
    ended_by: str
    """The game's word for its end, or "step limit", or "invalid"."""
    success: bool | None
    """As the game declares it; None where it declares none."""
    game_metrics: tuple[tuple[str, float], ...] = ()
    """Further numbers that the game reports about the episode."""

    @property
    def total_reward(self) -> float:
        """Undiscounted sum of the rewards, penalties included."""
        return sum(step.reward for step in self.steps)

    @property
    def state_key(self) -> bytes:
        """The whole initial state."""
        return self.steps[0].state_key
