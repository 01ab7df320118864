"""Episodes are shared out: every rank plays some of the groups, and all get all episodes.

Knows starts, groups and how to play. Knows nothing about models, losses or files. An episode depends on its key alone,
so the episodes are those that one process plays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from msgrpo_cli.episode import Episode, Start
from msgrpo_cli.errors import Interrupted, RunError
from msgrpo_cli.models.generation import OwnWeights
from msgrpo_cli.rollout.play import GameFactory, Judge, PlayEpisodes, PlayRules, Policy, play_episodes
from msgrpo_cli.rollout.seating import SeatedPolicy

from .ranks import Ranks
from .sharding import read_alone

OnProgress = Callable[[int, int], None]


def shared_play(ranks: Ranks) -> PlayEpisodes:
    """`play_episodes` on all ranks at once, each with the same arguments; whole groups go to one rank, in turn, or to
    several that answer together."""

    def play(
        starts: Sequence[Start],
        make_game: GameFactory,
        policy: Policy,
        rules: PlayRules,
        judge: Judge | None = None,
        on_progress: OnProgress = lambda finished, total: None,
    ) -> list[Episode]:
        """This rank's share, then everybody's, in the order of `starts`."""
        own = SeatedPolicy.own_of(policy)
        together = together_in(own)
        mine = [starts[number] for number in share(starts, ranks.rank // together, ranks.count // together)]

        with _ready(own):
            if together == 1:
                of_each = ranks.gather(lambda: play_episodes(mine, make_game, policy, rules, judge, on_progress))
            else:
                telling = ToTheEnd(on_progress)
                with ranks.in_step():
                    episodes = play_episodes(mine, make_game, policy, rules, judge, telling)
                of_each = ranks.gather(lambda: telling.unless_left(episodes))[::together]
        numbers = [number for part in range(len(of_each)) for number in share(starts, part, len(of_each))]
        played = dict(zip(numbers, (episode for part in of_each for episode in part), strict=True))
        episodes = [played[number] for number in range(len(starts))]
        ranks.gather(lambda: _same_starts(episodes, starts))
        return episodes

    return play


def share(starts: Sequence[Start], part: int, count: int) -> list[int]:
    """The numbers of the starts that one of `count` parts of the ranks plays."""
    groups = {group: number for number, group in enumerate(dict.fromkeys(start.group for start in starts))}
    return [number for number, start in enumerate(starts) if groups[start.group] % count == part]


def _same_starts(episodes: Sequence[Episode], starts: Sequence[Start]) -> None:
    """Raises RunError where a rank played other starts, or with others on the seats, than this one would have."""
    for episode, start in zip(episodes, starts, strict=True):
        if episode.start != start:
            raise RunError(
                f"the processes have come to different games: {_told(episode.start)} was played where another process "
                f"has {_told(start)}; go on with --resume from the last checkpoint"
            )


def _told(start: Start) -> str:
    seats = f" with {', '.join(start.seats)}" if start.seats else ""
    return f"member {start.member} of group {start.group}, seed {start.seed}{seats}"


def together_in(policy: Policy) -> int:
    """How many ranks, one after the other, play the same because they answer together."""
    generator = getattr(policy, "generator", None)
    return generator.together if isinstance(generator, OwnWeights) else 1


@contextmanager
def _ready(policy: Policy) -> Iterator[None]:
    """Within, each rank may ask the policy as often as it likes, and no answer waits for a rank that plays others.

    All ranks enter and leave, those that will play nothing among them.
    """
    model, generator = getattr(policy, "model", None), getattr(policy, "generator", None)
    if isinstance(generator, OwnWeights) and model is not None:
        generator.renew(model)
        yield
    elif model is not None:
        with read_alone(model):
            yield
    else:
        yield


@dataclass
class ToTheEnd:
    """What leaves when progress is told leaves after all is done: a rank that answers with others may not leave alone,
    for they would wait for it in the midst of an answer."""

    on_progress: OnProgress
    _left: BaseException | None = None

    def __call__(self, finished: int, total: int) -> None:
        try:
            self.on_progress(finished, total)
        except (Exception, Interrupted) as error:  # noqa: BLE001 - whatever it is, it is raised at the end
            self._left = self._left or error

    def unless_left(self, done: list[Episode]) -> list[Episode]:
        """What was done. Raises what would have left before."""
        if self._left is not None:
            raise self._left
        return done
