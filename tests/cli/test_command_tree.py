"""Commands as plain data: what Typer will take is what completion offers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from msgrpo_cli.cli.app import app
from msgrpo_cli.cli.command_tree import Command, Parameter, tree_of


def _leaves(command: Command, name: str = "") -> Iterator[tuple[str, Command]]:
    if not command.commands:
        yield name, command
    for word, below in command.commands.items():
        yield from _leaves(below, f"{name} {word}".strip())


def test_every_command_has_verbose_and_help() -> None:
    found = dict(_leaves(tree_of(app)))
    assert {"train", "eval", "sweep", "doctor", "completion", "config show", "config schema"} <= set(found)
    for name, command in found.items():
        assert {"-v", "--verbose", "--help"} <= set(command.options), name
        assert command.help, name


def test_options_and_arguments_of_a_signature() -> None:
    small = typer.Typer()

    @small.command("go-on")
    def _go_on(
        names: Annotated[list[str] | None, typer.Argument(metavar="RUN|DIR")] = None,
        config_dir: Annotated[list[Path] | None, typer.Option(metavar="DIR", help="Where.")] = None,
        as_json: Annotated[bool, typer.Option("--json")] = False,
    ) -> None:
        """First line.

        Second.
        """

    @small.command(hidden=True)
    def secret() -> None: ...

    command = tree_of(small).commands["go-on"]
    assert command.help == "First line."
    assert command.parameters[:3] == (
        Parameter((), ("RUN", "DIR"), (), flag=False, repeated=True, help=""),
        Parameter(("--config-dir",), ("DIR",), (), flag=False, repeated=True, help="Where."),
        Parameter(("--json",), (), (), flag=True, repeated=False, help=""),
    )
    assert list(tree_of(small).commands) == ["go-on"]


def test_an_enum_s_values_are_choices() -> None:
    assert tree_of(app).commands["train"].options["--cfg"].choices == ("job", "hydra", "all")
