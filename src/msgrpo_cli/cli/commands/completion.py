"""`msgrpo completion bash|zsh|fish`, and what its scripts ask: the hidden `msgrpo _complete`.

Knows arguments. What is offered is decided by `cli/completion`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ..completion import Shell
from ..exit import ending
from ..options import Verbose


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell that will read it.")],
    verbose: Verbose = False,
) -> None:
    """Print a shell's script for commands, keys and values.

    Use it as: eval "$(msgrpo completion bash)".
    """
    with ending(verbose):
        from ..completion import script

        print(script(shell), end="")


def complete(app: typer.Typer, words: list[str] | None) -> None:
    """Print WORD<TAB>HELP lines for the last of the words, which is incomplete."""
    from ..command_tree import tree_of
    from ..completion import offers

    with ending(verbose=False):
        print("".join(f"{offer.word}\t{offer.help}\n" for offer in offers(tree_of(app), words or [""])), end="")
