"""Reference players that need no model: uniform, the game's heuristic and search, and exact dynamic programming.

Knows games and their transition tables. Knows nothing about tokens, models or training.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from msgrpo_cli.common.seeding import uniforms
from msgrpo_cli.episode import Completion
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.core import (
    KnownDynamics,
    TextMediatedStochasticGame,
    Transition,
    is_illegal,
    legal_moves,
)
from msgrpo_cli.games.guard import BrokenPromise, blaming

from .play import Decision, Policy
from .visits import Game

_TIE = 1e-12  # values closer than this count as equal, so that the first of equally good actions is named


class RandomPlayer:
    """Plays uniformly over the legal moves. Raises UsageError where a game of free text lists none."""

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        return [_says(self._choose(decision)) for decision in decisions]

    def _choose(self, decision: Decision) -> str:
        with _asked(decision):
            moves = legal_moves(decision.game, "random play")
        return moves[int(uniforms((*decision.key, "player"), 1)[0] * len(moves))]


class GreedyPlayer:
    """Plays the game's simple heuristic. Raises ValueError for a game that has none."""

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        return [_says(self._legal(decision)) for decision in decisions]

    def _legal(self, decision: Decision) -> str:
        """What it chooses; that the game's own player breaks its rules is the game's fault."""
        action = self._choose(decision.game)
        with _asked(decision):
            if is_illegal(decision.game, action):
                raise BrokenPromise(f"greedy_action() or search_action() is {action!r}, no move of legal()")
        return action

    def _choose(self, game: TextMediatedStochasticGame) -> str:
        action = game.greedy_action()
        if action is None:
            raise ValueError(f"{type(game.present).__name__} has no heuristic player")
        return action


class SearchPlayer(GreedyPlayer):
    """Plays the game's search. Raises ValueError for a game that has none."""

    def _choose(self, game: TextMediatedStochasticGame) -> str:
        action = game.search_action()
        if action is None:
            raise ValueError(f"{type(game.present).__name__} has no search")
        return action


class ExactPlayer:
    """Plays optimally by finite-horizon dynamic programming, and judges actions by it.

    V_0(s) = 0; Q_h(s, a) = sum of p (r + V_{h-1}(s') unless the game ends); V_h(s) = max over a of Q_h(s, a), with h
    the number of steps left, over the legal moves of s. Values are kept for the life of the player.
    """

    def __init__(self) -> None:
        self._values: dict[tuple[Hashable, int], tuple[float, ...]] = {}

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        return [_says(self._choose(decision.game)) for decision in decisions]

    def judge(self, game: TextMediatedStochasticGame, action: str | None) -> tuple[str | None, float | None]:
        """The optimal action here and the expected total reward that `action` loses; None, None where unknown.

        Doing nothing (`action` None) is no action of the game, so its regret is unknown.
        """
        game = game.present
        if not isinstance(game, KnownDynamics):
            return None, None
        moves, values = self._here(game)
        best = moves[_first_best(values)]
        if action is None:
            return best, None
        lost = max(values) - values[moves.index(action)]
        return best, lost if lost > _TIE else 0.0

    def value(self, game: TextMediatedStochasticGame) -> float | None:
        """Expected total reward of optimal play from here to the step limit; None where unknown."""
        game = game.present
        if not isinstance(game, KnownDynamics):
            return None
        return max(self._here(game)[1])

    def _choose(self, game: TextMediatedStochasticGame) -> str:
        game = game.present
        if not isinstance(game, KnownDynamics):
            raise ValueError(f"{type(game).__name__} does not tell its transitions, so optimal play is unknown")
        moves, values = self._here(game)
        return moves[_first_best(values)]

    def _here(self, game: KnownDynamics) -> tuple[tuple[str, ...], tuple[float, ...]]:
        """The moves of the present state, and the value of each."""
        state = game.state()
        return game.legal_in(state), self._q(game, state, game.max_steps - game.elapsed)

    def _q(self, game: KnownDynamics, state: Hashable, steps_left: int) -> tuple[float, ...]:
        """Q_h(state, a) for every legal move a, h = steps_left; not recursive, so that no horizon is too long."""
        pending = [(state, steps_left)]
        while pending:
            here, left = pending[-1]
            if (here, left) in self._values:
                pending.pop()
                continue
            if not (moves := game.legal_in(here)):
                raise UsageError(
                    f"{type(game).__name__}: legal_in() lists no move of a state that goes on, but exact play must "
                    "choose among some: let it return those that are known"
                )
            outcomes = [game.transitions(here, action) for action in moves]
            later = {(after, left - 1) for given in outcomes for _, after, _, ended in given if left > 1 and not ended}
            if unknown := [one for one in later if one not in self._values]:
                pending.extend(unknown)
            else:
                self._values[pending.pop()] = tuple(self._expected(given, left) for given in outcomes)
        return self._values[state, steps_left]

    def _expected(self, outcomes: Sequence[Transition], steps_left: int) -> float:
        total = 0.0
        for chance, after, reward, ended in outcomes:
            later = 0.0 if ended or steps_left == 1 else max(self._values[after, steps_left - 1])
            total += chance * (reward + later)
        return total


def _first_best(values: Sequence[float]) -> int:
    best = max(values)
    return next(index for index, value in enumerate(values) if value > best - _TIE)


def _asked(decision: Decision) -> blaming:
    """Around what a game is asked about a decision."""
    return blaming(type(decision.game).__name__, "at the decision {}", decision.key)


def _says(action: str) -> Completion:
    return Completion(text=action, action=action)


def players_of(game: Game) -> dict[str, Policy]:
    """The reference players that a game has; none that is random where a game of free text lists no moves."""
    players: dict[str, Policy] = {"random": RandomPlayer()} if game.lists_moves() else {}
    if game.greedy_action() is not None:
        players["greedy"] = GreedyPlayer()
    if game.search_action() is not None:
        players["search"] = SearchPlayer()
    if isinstance(game, KnownDynamics):
        players["optimal"] = ExactPlayer()
    return players
