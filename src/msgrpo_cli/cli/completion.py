"""What the TAB key offers: the words that may stand where the last word of a command line stands.

Knows commands, options and kinds of values, and the shells' scripts. Knows nothing about config keys
(`override_completion` does) and imports nothing heavy: an answer is due within half a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from .command_tree import Command, Parameter

_SCRIPTS = Path(__file__).with_name("completion_scripts")


class Shell(StrEnum):
    """Shells that there is a script for."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


class Offer(NamedTuple):
    """One whole word, and what it means."""

    word: str
    help: str = ""


@dataclass
class Line:
    """A command line up to the word in question."""

    command: Command
    name: str = ""
    waiting: Parameter | None = None
    """The option whose value comes next."""
    given: list[tuple[Parameter, str]] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    @property
    def config_dirs(self) -> list[Path]:
        return [Path(value).expanduser() for parameter, value in self.given if "--config-dir" in parameter.names]


Source = Callable[[Line, str], list[Offer]]
"""Offers for one kind of value: takes the line before it and what is typed of it."""


def script(shell: Shell) -> str:
    """The text that a shell reads to complete `msgrpo`."""
    return (_SCRIPTS / f"msgrpo.{shell.value}").read_text(encoding="utf-8")


def offers(root: Command, words: Sequence[str]) -> list[Offer]:
    """What may stand in place of the last of `words`; each begins with what is typed of it."""
    *before, word = words or [""]
    line = _read(root, before)
    return [offer for offer in _offers(line, word) if offer.word.startswith(word) and offer.word != ""]


def _read(root: Command, words: Sequence[str]) -> Line:
    line = Line(root)
    for word in words:
        option, separator, value = word.partition("=")
        known = line.command.options
        if line.waiting is not None:
            line.given.append((line.waiting, word))
            line.waiting = None
        elif option in known:
            if separator:
                line.given.append((known[option], value))
            elif not known[option].flag:
                line.waiting = known[option]
        elif word in line.command.commands:
            line.command, line.name = line.command.commands[word], f"{line.name} {word}".strip()
        elif line.command.commands:
            return Line(Command())  # of an unknown command nothing is known
        else:
            line.arguments.append(word)
    return line


def _offers(line: Line, word: str) -> list[Offer]:
    option, separator, value = word.partition("=")
    if line.waiting is not None:
        return _values(line, line.waiting, word)
    if separator and option in line.command.options:
        found = _values(line, line.command.options[option], value)
        return [Offer(f"{option}={offer.word}", offer.help) for offer in found]
    if word.startswith("-"):
        return [Offer(name, parameter.help) for name, parameter in line.command.options.items() if len(name) > 2]
    if line.command.commands:
        return [Offer(name, command.help) for name, command in line.command.commands.items()]
    arguments = line.command.arguments
    repeated = arguments and arguments[-1].repeated
    place = min(len(line.arguments), len(arguments) - 1) if repeated else len(line.arguments)
    return _values(line, arguments[place], word) if place < len(arguments) else []


def _values(line: Line, parameter: Parameter, word: str) -> list[Offer]:
    offers = [Offer(choice) for choice in parameter.choices]
    for kind in parameter.kinds:
        if kind in SOURCES:
            offers += SOURCES[kind](line, word)
    return list(dict.fromkeys(offers))


def _overrides(line: Line, word: str) -> list[Offer]:
    from .override_completion import complete

    primary = "eval" if line.name == "eval" else "train"
    return [Offer(text) for text in complete(word, line.arguments, line.config_dirs, primary)]


def _games(line: Line, word: str) -> list[Offer]:
    from msgrpo_cli.config.compose import options_of

    return [] if line.arguments else [Offer(name) for name in options_of("env", line.config_dirs)]


def _runs(line: Line, word: str) -> list[Offer]:
    from msgrpo_cli.runs.directory import known_runs

    found = known_runs(Path("."))
    newest = [Offer(run.name, str(run.parent)) for run in reversed(found)]
    return [Offer("last", "the run that started last"), *newest] if found else []


def _sweeps(line: Line, word: str) -> list[Offer]:
    return [Offer(str(path)) for path in sorted(Path("multirun").glob("*/*"))]


def _paths(line: Line, word: str) -> list[Offer]:
    from .override_completion import paths

    return [Offer(text) for text in paths(word)]


def _files(line: Line, word: str) -> list[Offer]:
    from .override_completion import paths

    return [Offer(text) for text in paths(word, files=True)]


SOURCES: Mapping[str, Source] = {
    "KEY=VALUE": _overrides,
    "ENV": _games,
    "RUN": _runs,
    "SWEEP": _sweeps,
    "CHECKPOINT": _paths,
    "DIR": _paths,
    "FILE": _files,
}
"""What is offered for each kind of value; a metavar names the kind."""
