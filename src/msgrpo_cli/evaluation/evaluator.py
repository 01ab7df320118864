"""Scoring a policy on fixed starts, beside random and optimal play on the very same ones.

Knows games, players and scores. Knows nothing about models, files or training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from typing import Any

from msgrpo_cli.episode import Episode, Start, pairs
from msgrpo_cli.games.guard import AT_START, blaming
from msgrpo_cli.rollout.play import GameFactory, PlayEpisodes, PlayRules, Policy, play_episodes
from msgrpo_cli.rollout.players import ExactPlayer, GreedyPlayer, RandomPlayer, SearchPlayer
from msgrpo_cli.rollout.seating import SeatedPolicy, Seating, against_random
from msgrpo_cli.rollout.split import Split, has_split, start_seeds
from msgrpo_cli.rollout.trained_prompts import TrainedPrompts

from .opponents import seated_player
from .scores import Evaluation, Scores, evaluation, score

_SEEDS_APART = 10**9  # evaluation seeds s and s + 1 share no initial-state seed


@dataclass(frozen=True)
class Played:
    """What one evaluation played and what it says."""

    evaluation: Evaluation
    episodes: list[Episode]


class Evaluator:
    """Plays `episodes` starts of one part of a game's state space; everything follows from `seed`.

    Of several players whoever is scored sits where `seats` says `self`, by default on one seat against random play; the
    seats are moved on by one from start to start, so that every role is played.
    """

    def __init__(
        self,
        make_game: GameFactory,
        rules: PlayRules,
        *,
        split: Split,
        seed: int,
        episodes: int,
        on_progress: Callable[[int, int], None] = lambda finished, total: None,
        play: PlayEpisodes = play_episodes,
        seats: Sequence[str] | None = None,
        player: Callable[[str], Policy] = seated_player,
    ) -> None:
        """`player`: who sits on a seat by this name."""
        self._play = play
        self._player = player
        self._make_game = make_game
        self._rules = rules
        self._on_progress = on_progress
        game = make_game()
        self.split: Split = split if has_split(game) else "any"
        self._not_held_out = () if self.split == "any" else game.not_held_out
        self._first_seed = seed * _SEEDS_APART
        seeds = list(islice(start_seeds(game, split, count(self._first_seed)), episodes))
        self.seats = tuple(seats or against_random(game.players)) if game.players > 1 else ()
        self.starts = [
            Start(start, number, 0, (seed, "eval", number, 0), self._seats_of(number))
            for number, start in enumerate(seeds)
        ]
        self._exact = ExactPlayer()

    def play(self, policy: Policy) -> list[Episode]:
        """Play every start, with regret against exact play where the game allows it."""
        if self.seats:
            policy = SeatedPolicy(policy, self._player)
        return self._play(self.starts, self._make_game, policy, self._rules, self._exact, self._on_progress)

    def _seats_of(self, number: int) -> tuple[str, ...]:
        return Seating(self.seats).of(number, ()) if self.seats else ()

    @cached_property
    def random_episodes(self) -> list[Episode] | None:
        """Uniform play of the same starts; None where a game of free text lists no moves to choose among."""
        return self.play(RandomPlayer()) if self._make_game().lists_moves() else None

    def references(self, base: Sequence[Episode] | None = None) -> dict[str, Scores]:
        """What random play, and the base, score on the same starts, as far as they are known."""
        episodes = {"random": self.random_episodes, "base": base}
        return {name: score(played) for name, played in episodes.items() if played}

    @cached_property
    def optimal_score(self) -> float | None:
        """The best that is known: exact where it can be computed, else what the better of the game's heuristic and
        search reaches on the same starts; None where there is neither."""
        if self.exact_score is not None:
            return self.exact_score
        reached = []
        for player in (GreedyPlayer(), SearchPlayer()):
            with suppress(ValueError):  # the game has no such player
                reached.append(score(self.play(player)).mean_total_reward)
        return max(reached, default=None)

    @cached_property
    def exact_score(self) -> float | None:
        """Expected total reward of optimal play, averaged over the starts; None where dynamics are unknown."""
        game, values = self._make_game(), []
        for start in self.starts:
            with blaming(self._rules.env, AT_START, start.seed):
                game.reset(seed=start.seed)
                values.append(self._exact.value(game))
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if len(known) == len(values) else None

    def evaluate(
        self,
        name: str,
        policy: Policy,
        *,
        greedy_policy: Policy | None = None,
        checkpoint: str | None = None,
        base_episodes: Sequence[Episode] | None = None,
        sampling: dict[str, Any] | None = None,
        training_sampling: dict[str, Any] | None = None,
        trained: TrainedPrompts | None = None,
    ) -> Played:
        """Play and score. `name` is who plays: model, random, greedy, optimal; `trained` is what it was trained on."""
        began = time.perf_counter()
        episodes = (self.random_episodes if name == "random" else None) or self.play(policy)
        greedy = self.play(greedy_policy) if greedy_policy is not None else None
        result = evaluation(
            env=self._rules.env,
            policy=name,
            checkpoint=checkpoint,
            episodes=episodes,
            greedy_episodes=greedy,
            random_episodes=self.random_episodes,
            optimal_score=self.optimal_score,
            base_episodes=base_episodes,
            seeds=(self.starts[0].seed, self.starts[-1].seed),
            split=self.split,
            not_held_out=self._not_held_out,
            overlap=trained.overlap(pairs(episodes)) if trained is not None else None,
            optimal_is_exact=self.exact_score is not None,
            sampling=sampling or {},
            training_sampling=training_sampling,
            wall_seconds=time.perf_counter() - began,
            seats=self.seats,
        )
        return Played(result, episodes)
