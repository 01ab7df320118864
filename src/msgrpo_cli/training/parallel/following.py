"""What the other ranks do while the first leads: play their share, take the same optimizer steps, write nothing.

Knows the trainer, a policy and the words of the first rank. Knows nothing about metrics, scores, or when to evaluate or
save: the first rank decides, and tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.episode import Episode, Start
from msgrpo_cli.errors import Interrupted
from msgrpo_cli.models.factory import at_temperature
from msgrpo_cli.models.policy import LanguageAgentPolicy
from msgrpo_cli.rollout.play import GameFactory, Judge, PlayEpisodes, PlayRules, Policy, play_episodes
from msgrpo_cli.rollout.seating import SeatedPolicy

from ..curriculum import Curriculum
from ..end_of_update import AfterUpdate, FinishedUpdate
from .ranks import Ranks
from .shares import shared_play

StoredPolicy = Callable[[Path], LanguageAgentPolicy]


class Trains(Protocol):
    """What a follower does with its trainer."""

    def train(self, *, resume_from_checkpoint: str | None) -> Any: ...

    def save_finished_update(self) -> None: ...

    def give_back(self) -> None: ...


@dataclass(frozen=True)
class Begin:
    """The run begins or goes on: its config, and the stage of its curriculum."""

    config: RunConfig
    stage: int


@dataclass(frozen=True)
class Evaluate:
    """Play your share of these starts."""

    starts: Sequence[Start]
    temperature: float
    checkpoint: Path | None
    """Whose weights play; None: those in training."""


@dataclass(frozen=True)
class Train:
    """Train, from a checkpoint or from the beginning."""

    checkpoint: str | None


@dataclass(frozen=True)
class Updated:
    """The end of an update: what follows, and the stage of the curriculum from now on."""

    after: AfterUpdate
    stage: int


@dataclass(frozen=True)
class Save:
    """Save the last finished update: the run was asked to end."""


@dataclass(frozen=True)
class GiveBack:
    """Training is over: give back what it held."""


class _Left(Exception):
    """Told in the midst of training, and meant for after it."""

    def __init__(self, words: object) -> None:
        super().__init__()
        self.words = words


@dataclass
class Leader:
    """The first rank's side: evaluations by a model are shared out, whatever else is played is played here alone."""

    ranks: Ranks
    stored: Mapping[int, Path] = field(default_factory=dict)
    """Of models that were read back from disk, by their identity, the checkpoint."""

    def evaluating(self) -> PlayEpisodes:
        """How an evaluation plays."""
        together = shared_play(self.ranks)

        def play(starts: Sequence[Start], make_game: GameFactory, policy: Policy, *more: Any) -> list[Episode]:
            own = SeatedPolicy.own_of(policy)
            if not isinstance(own, LanguageAgentPolicy):
                return play_episodes(starts, make_game, policy, *more)
            self.ranks.tell(Evaluate(starts, own.sampling.temperature, self.stored.get(id(own.model))))
            return together(starts, make_game, policy, *more)

        return play

    def remembering(self, stored_policy: StoredPolicy) -> StoredPolicy:
        """The same, and which checkpoint each policy is from."""

        def policy(path: Path) -> LanguageAgentPolicy:
            found = stored_policy(path)
            self.stored = {id(found.model): path}  # the one before is gone by then
            return found

        return policy

    def updating(
        self, after_update: Callable[[FinishedUpdate], AfterUpdate], curriculum: Curriculum
    ) -> Callable[[FinishedUpdate], AfterUpdate]:
        """The same, and the others are told what follows."""

        def told(finished: FinishedUpdate) -> AfterUpdate:
            after = after_update(finished)
            self.ranks.tell(Updated(after, curriculum.stage))
            return after

        return told


@dataclass
class Follower:
    """The parts of a run as another rank has them."""

    ranks: Ranks
    policy: LanguageAgentPolicy
    stored_policy: StoredPolicy
    make_game: GameFactory
    """Of evaluations."""
    rules: PlayRules
    """Of evaluations."""
    judge: Judge
    player: Callable[[str], Policy]
    """Who else sits on a seat, of several players."""
    curriculum: Curriculum
    on_progress: Callable[[int, int], None]
    trainer: Trains = field(init=False)
    _stored: dict[Path, LanguageAgentPolicy] = field(default_factory=dict)
    """The last that was asked for."""

    def follow(self) -> None:
        """Until the first rank ends the run, by EndedByFirst."""
        words = self.ranks.hear()
        while True:
            words = self._done(words) or self.ranks.hear()

    def after_update(self, finished: FinishedUpdate) -> AfterUpdate:
        """As the first rank decides."""
        while not isinstance(words := self.ranks.hear(), Updated):
            if not isinstance(words, Evaluate):
                raise _Left(words)
            self._done(words)
        self.curriculum.stage = words.stage
        return words.after

    def _done(self, words: object) -> object | None:
        """Does what is told; returns what was told meanwhile and is still to be done."""
        try:
            if isinstance(words, Evaluate):
                self._evaluate(words)
            elif isinstance(words, Train):
                self.trainer.train(resume_from_checkpoint=words.checkpoint)
            elif isinstance(words, Save):
                self.trainer.save_finished_update()
            elif isinstance(words, GiveBack):
                self.trainer.give_back()
        except _Left as left:
            return left.words
        except Interrupted:  # told to all, so that all are here
            return None
        return None

    def _evaluate(self, words: Evaluate) -> None:
        policy: Policy = at_temperature(self._policy_of(words.checkpoint), words.temperature)
        if words.starts and words.starts[0].seats:
            policy = SeatedPolicy(policy, self.player)
        shared_play(self.ranks)(words.starts, self.make_game, policy, self.rules, self.judge, self.on_progress)

    def _policy_of(self, checkpoint: Path | None) -> LanguageAgentPolicy:
        if checkpoint is None:
            return self.policy
        if checkpoint not in self._stored:
            self._stored = {}  # before the next is loaded
            self._stored = {checkpoint: self.stored_policy(checkpoint)}
        return self._stored[checkpoint]
