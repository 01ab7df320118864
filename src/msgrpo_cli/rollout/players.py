"""Reference players that need no model: uniform, the game's heuristic and search, and exact dynamic programming.

Knows games and their transition tables. Knows nothing about tokens, models or training.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from msgrpo_cli.common.seeding import uniforms
from msgrpo_cli.episode import Completion
from msgrpo_cli.games.core import KnownDynamics, TextMediatedStochasticGame, Transition

from .play import Decision, Policy
from .visits import Game

_TIE = 1e-12  # values closer than this count as equal, so that the first of equally good actions is named


class RandomPlayer:
    """Plays uniformly over the game's actions."""

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        return [_says(self._choose(decision)) for decision in decisions]

    def _choose(self, decision: Decision) -> str:
        actions = decision.game.actions
        return actions[int(uniforms((*decision.key, "player"), 1)[0] * len(actions))]


class GreedyPlayer:
    """Plays the game's simple heuristic. Raises ValueError for a game that has none."""

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        return [_says(self._choose(decision.game)) for decision in decisions]

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
    the number of steps left. Values are kept for the life of the player.
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
        values = self._q(game, game.state(), game.max_steps - game.elapsed)
        best = game.actions[_first_best(values)]
        if action is None:
            return best, None
        lost = max(values) - values[game.actions.index(action)]
        return best, lost if lost > _TIE else 0.0

    def value(self, game: TextMediatedStochasticGame) -> float | None:
        """Expected total reward of optimal play from here to the step limit; None where unknown."""
        game = game.present
        if not isinstance(game, KnownDynamics):
            return None
        return max(self._q(game, game.state(), game.max_steps - game.elapsed))

    def _choose(self, game: TextMediatedStochasticGame) -> str:
        game = game.present
        if not isinstance(game, KnownDynamics):
            raise ValueError(f"{type(game).__name__} does not tell its transitions, so optimal play is unknown")
        return game.actions[_first_best(self._q(game, game.state(), game.max_steps - game.elapsed))]

    def _q(self, game: KnownDynamics, state: Hashable, steps_left: int) -> tuple[float, ...]:
        """Q_h(state, a) for every action a, h = steps_left; not recursive, so that no horizon is too long."""
        pending = [(state, steps_left)]
        while pending:
            here, left = pending[-1]
            if (here, left) in self._values:
                pending.pop()
                continue
            outcomes = [game.transitions(here, action) for action in game.actions]
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


def _says(action: str) -> Completion:
    return Completion(text=action, action=action)


def players_of(game: Game) -> dict[str, Policy]:
    """The reference players that a game has."""
    players: dict[str, Policy] = {"random": RandomPlayer()}
    game.reset(seed=0)
    if game.greedy_action() is not None:
        players["greedy"] = GreedyPlayer()
    if game.search_action() is not None:
        players["search"] = SearchPlayer()
    if isinstance(game, KnownDynamics):
        players["optimal"] = ExactPlayer()
    return players
