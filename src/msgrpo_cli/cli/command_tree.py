"""The commands of a Typer application as plain data: subcommands, options, arguments, and what their values are.

Knows how signatures become options. Imports neither what a command does nor Typer's inner parts, which it vendors.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import typer
from typer.models import ArgumentInfo, OptionInfo


@dataclass(frozen=True)
class Parameter:
    """One option or argument."""

    names: tuple[str, ...]
    """How an option is written, such as `--json`; empty for an argument."""
    kinds: tuple[str, ...]
    """What a value is: the parts of its metavar, such as RUN or DIR."""
    choices: tuple[str, ...]
    flag: bool
    repeated: bool
    help: str


@dataclass(frozen=True)
class Command:
    """One command; a group has `commands`."""

    help: str = ""
    parameters: tuple[Parameter, ...] = ()
    commands: Mapping[str, Command] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Parameter]:
        """Every way to write an option."""
        return {name: parameter for parameter in self.parameters for name in parameter.names}

    @property
    def arguments(self) -> list[Parameter]:
        return [parameter for parameter in self.parameters if not parameter.names]


def tree_of(app: typer.Typer) -> Command:
    """The application's commands; hidden ones are left out."""
    commands: dict[str, Command] = {}
    for info in app.registered_commands:
        if info.callback is not None and not info.hidden:
            commands[info.name or info.callback.__name__.replace("_", "-")] = _command(info.callback)
    for group in app.registered_groups:
        if group.name and group.typer_instance is not None:
            commands[group.name] = tree_of(group.typer_instance)
    root = app.registered_callback
    parameters = _parameters(root.callback) if root is not None and root.callback is not None else []
    help_text = app.info.help if isinstance(app.info.help, str) else ""
    return Command(help_text, (*parameters, _HELP), commands)


_HELP = Parameter(("--help",), (), (), flag=True, repeated=False, help="Show this message and exit.")


def _command(callback: Callable[..., Any]) -> Command:
    first_line = (callback.__doc__ or "").strip().partition("\n")[0]
    return Command(first_line, (*_parameters(callback), _HELP))


def _parameters(callback: Callable[..., Any]) -> list[Parameter]:
    hints = typing.get_type_hints(callback, include_extras=True)
    return [_parameter(name, *typing.get_args(hint)[:2]) for name, hint in hints.items() if _is_declared(hint)]


def _is_declared(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Annotated and isinstance(
        typing.get_args(hint)[1], (OptionInfo, ArgumentInfo)
    )


def _parameter(name: str, kind: Any, info: OptionInfo | ArgumentInfo) -> Parameter:
    plain, repeated = _plain(kind)
    names: tuple[str, ...] = ()
    if isinstance(info, OptionInfo):
        declared = (str(text) for text in (info.default, *(info.param_decls or ())))
        written = [text for text in declared if text.startswith("-")]
        names = tuple(written or [f"--{name.replace('_', '-')}"])  # inside Annotated the first is taken for a default
    is_choice = isinstance(plain, type) and issubclass(plain, enum.Enum)
    return Parameter(
        names=names,
        kinds=tuple(info.metavar.split("|")) if info.metavar else (),
        choices=tuple(str(member.value) for member in plain) if is_choice else (),
        flag=plain is bool,
        repeated=repeated,
        help=info.help or "",
    )


def _plain(kind: Any) -> tuple[Any, bool]:
    """`list[Path] | None` as (Path, True)."""
    if isinstance(kind, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
    if typing.get_origin(kind) is list:
        return typing.get_args(kind)[0], True
    return kind, False
