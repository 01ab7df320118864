"""What one played episode leaves behind, as frozen records.

Knows completions, steps and episodes. Knows nothing about models, games, files or training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from msgrpo_cli.common.seeding import Key

SELF = "self"
"""Who sits where the policy in training, or the one that is scored, plays."""


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
    seats: tuple[str, ...] = ()
    """Who sits on each seat of a game of several players; empty where there is one, or all are `self`."""

    def player(self, seat: int) -> str:
        """Who sits there."""
        return self.seats[seat] if self.seats else SELF


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
    """Reward of this step, the format penalty already subtracted. Of several players: all that the seat gets from this
    decision of its own up to its next; with its first also what it got before."""
    state_key: bytes
    """The state in which the decision was taken."""
    optimal_action: str | None = None
    regret: float | None = None
    """Expected total reward lost against the best action (game rewards); None where unknown."""
    illegal: bool | None = None
    """Whether the completion, invalid then, held an action of the game that is no move of this state; None where all
    actions are moves of all states."""
    seat: int = 0
    """Who decided, of several players."""

    @property
    def valid(self) -> bool:
        """Whether the completion held a move of this state."""
        return self.completion.action is not None


def illegal_rate(steps: Sequence[Step]) -> float | None:
    """Share of steps whose answer named an action that is no move of the state; None where all always are."""
    known = [step.illegal for step in steps if step.illegal is not None]
    return sum(known) / len(steps) if known else None


@dataclass(frozen=True, slots=True)
class Seat:
    """What one seat of a game of several players had of an episode."""

    player: str
    """Who sat there."""
    total_reward: float
    """Undiscounted sum of its rewards, penalties included; also of a seat that never came to decide."""
    success: bool | None
    """As the game declares it for this seat; None where it declares none."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One game from start to end; of several players with the steps of all seats, or as a pair with those of one."""

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
    """As the game declares it; None where it declares none. Of several players it belongs to a seat."""
    game_metrics: tuple[tuple[str, float], ...] = ()
    """Further numbers that the game reports about the episode."""
    seats: tuple[Seat, ...] = ()
    """Of several players: what each seat had."""
    seat: int | None = None
    """Of a pair of several players: whose steps these are."""
    began: bytes | None = None
    """Of several players: the whole initial state, in which this seat may not have decided."""

    @property
    def total_reward(self) -> float:
        """Undiscounted sum of the rewards, penalties included.

        Raises ValueError of a whole episode of several players, which has no total of its own: see `seats`, `pairs`.
        """
        if self.seats and self.seat is None:
            raise ValueError("a whole episode of several players has a total reward for each seat, and none of its own")
        return sum(step.reward for step in self.steps)

    @property
    def state_key(self) -> bytes:
        """The whole initial state."""
        return self.steps[0].state_key if self.began is None else self.began


def pairs(episodes: Iterable[Episode], player: str | None = SELF) -> list[Episode]:
    """(episode, seat) pairs, in order: each an episode with the steps, reward and success of one seat alone.

    Of the seats where `player` sits (None: of all); one that never came to decide has no pair. An episode of one player
    is its own pair.
    """
    return [pair for episode in episodes for pair in _pairs(episode, player)]


def _pairs(episode: Episode, player: str | None) -> Iterable[Episode]:
    if not episode.seats or episode.seat is not None:
        yield episode
        return
    for seat, had in enumerate(episode.seats):
        steps = tuple(step for step in episode.steps if step.seat == seat)
        if steps and player in (None, had.player):
            yield replace(episode, steps=steps, success=had.success, seat=seat)
