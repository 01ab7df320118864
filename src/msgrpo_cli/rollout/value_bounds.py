"""What a policy is worth at least and at most where only a part of its answers is known, by dynamic programming.

Knows states, transitions, shares of answers and what is played for an invalid one. Knows nothing about models, tokens
or how the shares were found.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from msgrpo_cli.games.core import KnownDynamics

from .play import LISTED, PlayRules


@dataclass(frozen=True)
class Known:
    """What is known of a policy in one state, at one time."""

    shares: Mapping[str, float]
    """Probability of each legal move, by the answers that are known."""
    invalid: float = 0.0
    """Probability of answers that are known to name none."""

    @property
    def uncovered(self) -> float:
        """The rest: answers of which nothing is known."""
        return max(0.0, 1.0 - sum(self.shares.values()) - self.invalid)


Reading = Literal["low", "high", "invalid"]
READINGS: tuple[Reading, ...] = ("low", "high", "invalid")
"""What is made of the answers of which nothing is known: whatever is worst, whatever is best, or an invalid answer."""
Place = tuple[int, Hashable]
"""(steps taken, state)."""


def layers(game: KnownDynamics, starts: Sequence[Hashable], rules: PlayRules) -> list[list[Hashable]]:
    """The states in which a decision can be taken after 0, 1, ... steps, from any of the starts to the step limit."""
    found: list[dict[Hashable, None]] = [dict.fromkeys(starts)]
    while len(found) < game.max_steps:
        following: dict[Hashable, None] = {}
        for state in found[-1]:
            if rules.invalid_action == "noop":
                following[state] = None
            for action in game.legal_in(state):
                following |= {after: None for _, after, _, ended in game.transitions(state, action) if not ended}
        if not following:
            break
        found.append(following)
    return [list(layer) for layer in found]


@dataclass(frozen=True)
class Worth:
    """Expected total rewards, and where a policy comes."""

    values: Mapping[Hashable, Mapping[Reading, float]]
    """Of every start."""
    visits: Mapping[Place, float]
    """How often an episode comes there, on average over the starts; what is uncovered taken for invalid."""


def worth(
    game: KnownDynamics,
    starts: Sequence[Hashable],
    rules: PlayRules,
    known: Callable[[int, Hashable], Known],
) -> Worth:
    """The value of every start within the game's step limit, for each reading; starts may be there several times.

    V_T(s) = 0; V_t(s) = sum over moves a of p(a|s) Q_t(s, a) + p(invalid|s) I_t(s) + p(uncovered|s) U_t(s), with
    Q_t(s, a) = sum of p (r + V_{t+1}(s') unless the game ends), I_t what an invalid answer brings by
    `rules.invalid_action`, less `rules.format_penalty`, and U_t the least or the largest of I_t and all Q_t, or I_t.
    The true value lies between the first two: what an uncovered answer plays is among these, whatever it is.
    """
    of_layers = layers(game, starts, rules)
    following: dict[Hashable, dict[Reading, float]] = {}
    for taken in reversed(range(len(of_layers))):
        following = {
            state: _values(game, state, known(taken, state), rules, following, taken + 1 == game.max_steps)
            for state in of_layers[taken]
        }
    return Worth(following, _visits(game, starts, rules, known, len(of_layers)))


def _values(
    game: KnownDynamics,
    state: Hashable,
    known: Known,
    rules: PlayRules,
    following: Mapping[Hashable, Mapping[Reading, float]],
    last: bool,
) -> dict[Reading, float]:
    moves, found = game.legal_in(state), dict[Reading, float]()
    outcomes = {move: game.transitions(state, move) for move in moves}
    for reading in READINGS:
        brings = {
            move: sum(
                chance * (reward + (0.0 if ended or last else following[after][reading]))
                for chance, after, reward, ended in outcomes[move]
            )
            for move in moves
        }
        stays = 0.0 if last or rules.invalid_action != "noop" else following[state][reading]
        fallback = sum(share * brings[move] for move, share in _fallback(moves, rules).items()) + stays
        invalid = fallback - rules.format_penalty
        extremes = {"low": min(invalid, *brings.values()), "high": max(invalid, *brings.values()), "invalid": invalid}
        told = sum(share * brings[move] for move, share in known.shares.items()) + known.invalid * invalid
        found[reading] = told + known.uncovered * extremes[reading]
    return found


def _fallback(moves: Sequence[str], rules: PlayRules) -> dict[str, float]:
    """What is played for an invalid answer; nothing where that is no move."""
    if rules.invalid_action not in LISTED:
        return {}
    return {moves[0]: 1.0} if rules.invalid_action == "first" else dict.fromkeys(moves, 1 / len(moves))


def _visits(
    game: KnownDynamics,
    starts: Sequence[Hashable],
    rules: PlayRules,
    known: Callable[[int, Hashable], Known],
    steps: int,
) -> dict[Place, float]:
    visits: dict[Place, float] = {}
    present: dict[Hashable, float] = {}
    for start in starts:
        present[start] = present.get(start, 0.0) + 1 / len(starts)
    for taken in range(steps):
        following: dict[Hashable, float] = {}
        for state, often in present.items():
            visits[taken, state] = often
            one, moves = known(taken, state), game.legal_in(state)
            invalid = one.invalid + one.uncovered
            played = {move: one.shares.get(move, 0.0) for move in moves}
            for move, share in _fallback(moves, rules).items():
                played[move] += invalid * share
            if rules.invalid_action == "noop" and invalid:
                following[state] = following.get(state, 0.0) + often * invalid
            for move, share in played.items():
                for chance, after, _, ended in game.transitions(state, move) if share else ():
                    if not ended:
                        following[after] = following.get(after, 0.0) + often * share * chance
        present = following
    return visits
