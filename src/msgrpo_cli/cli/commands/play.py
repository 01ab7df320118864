"""`msgrpo play`: play a game yourself.

Knows arguments. How a person plays in a terminal is in `cli/person`.
"""

from __future__ import annotations

from ..exit import ending
from ..options import ConfigDirs, NameAndOverrides, Verbose
from .env import game_config


def play(arguments: NameAndOverrides = None, config_dir: ConfigDirs = None, verbose: Verbose = False) -> None:
    """Play a game yourself, reading the text that the model reads.

    Arrow keys or typed actions; at the end stands what the reference players reach from the same start. Of several
    players you sit where eval.seats says self, such as eval.seats=[RUN/checkpoints/checkpoint-60,self].
    """
    with ending(verbose):
        from ..person import play_in_terminal

        play_in_terminal(game_config(arguments, config_dir, "eval"))
