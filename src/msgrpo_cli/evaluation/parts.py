"""What an evaluation is made of, from its config: the surroundings that models are loaded in, and the evaluator.

Knows configs and constructors. Knows nothing about what is asked, scores or how figures are shown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from msgrpo_cli.common.console import end_progress
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.models.factory import game_factory, play_rules
from msgrpo_cli.models.loading import quiet_libraries
from msgrpo_cli.models.precision import check_precision
from msgrpo_cli.models.surroundings import neutral_surroundings
from msgrpo_cli.rollout.play import PlayEpisodes, Policy, play_episodes
from msgrpo_cli.rollout.split import Split

from .evaluator import Evaluator
from .opponents import seated_player


@contextmanager
def loading(configs: Sequence[RunConfig]) -> Iterator[None]:
    """Models of these configs may be loaded meanwhile. Raises UsageError for a precision that this machine lacks."""
    quiet_libraries()
    for config in configs:
        check_precision(config)
    with neutral_surroundings(lambda line: print(line, file=sys.stderr)):
        try:
            yield
        finally:
            end_progress()


def evaluator_of(
    config: RunConfig,
    split: Split,
    on_progress: Callable[[int, int], None],
    play: PlayEpisodes = play_episodes,
    player: Callable[[str], Policy] = seated_player,
) -> Evaluator:
    """Plays the config's game from starts of `eval.split`, else of `split`; `player`: who sits on a seat by a name."""
    return Evaluator(
        game_factory(config.env, evaluation=True),
        play_rules(config, evaluation=True),
        split=config.eval.split or split,
        seed=config.eval.seed,
        episodes=config.eval.episodes,
        on_progress=on_progress,
        play=play,
        seats=config.eval.seats,
        player=player,
    )
