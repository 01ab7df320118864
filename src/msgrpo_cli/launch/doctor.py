"""`msgrpo doctor`: does everything that a run needs work here? One check after the other, whatever the others said.

Knows the list of checks, and the installation: the metadata of installed packages, our own first; imports none of them.
The machine is looked at in `doctor_machine`, the model and a training in `doctor_trial`.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from msgrpo_cli.common.checklist import Examination
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import RunError

from . import doctor_machine

_US = "msgrpo"
_NOT_FOR_USERS = {"dev"}


def python(_: RunConfig) -> str:
    """Within the range that our metadata declares."""
    allowed = metadata(_US)["Requires-Python"]
    here = platform.python_version()
    if not SpecifierSet(allowed).contains(here, prereleases=True):
        raise RunError(f"{here} lies outside {allowed}")
    return f"{here} ({allowed})"


def packages(_: RunConfig) -> str:
    """Every package that we depend on is there, in a declared version."""
    needed = [requirement for requirement in _requirements() if _applies(requirement, extra="")]
    wrong = [line for requirement in needed if (line := _mistake(requirement)) is not None]
    if wrong:
        raise RunError("; ".join(wrong) + "; pip install -c constraints.txt installs what is tested")
    shown = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "hydra-core"))
    return f"{len(needed)} packages within their declared ranges, {_US} {version(_US)}, {shown}"


def extras(_: RunConfig) -> str:
    """Which extras are installed; one whose packages are there in a wrong version is a mistake."""
    installed, absent, wrong = [], [], []
    for extra in metadata(_US).get_all("Provides-Extra") or []:
        if extra in _NOT_FOR_USERS:
            continue
        own = [r for r in _requirements() if _applies(r, extra) and not _applies(r, extra="")]
        if not all(_is_installed(requirement.name) for requirement in own):
            absent.append(extra)
            continue
        installed.append(extra)
        wrong += [line for requirement in own if (line := _mistake(requirement)) is not None]
    if wrong:
        raise RunError("; ".join(wrong))
    return f"installed: {', '.join(installed) or 'none'}; not installed: {', '.join(absent) or 'none'}"


def _requirements() -> Iterator[Requirement]:
    return (Requirement(text) for text in requires(_US) or [])


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _mistake(requirement: Requirement) -> str | None:
    if not _is_installed(requirement.name):
        return f"{requirement.name} is not installed"
    here = version(requirement.name)
    if requirement.specifier.contains(here, prereleases=True):
        return None
    return f"{requirement.name} {here} lies outside {requirement.specifier}"


def _tokenizer(config: RunConfig) -> str:
    from .doctor_trial import tokenizer

    return tokenizer(config)


def _training(config: RunConfig) -> str:
    from .doctor_trial import training

    return training()


def _several_processes(config: RunConfig) -> str:
    from .doctor_trial import several_processes

    return several_processes()


QUICK: Mapping[str, Examination[RunConfig]] = {
    "python": python,
    "packages": packages,
    "extras": extras,
    "devices": doctor_machine.devices,
    "memory": doctor_machine.memory,
    "disk": doctor_machine.disk,
    "write access": doctor_machine.write_access,
    "hub": doctor_machine.hub,
    "tokenizer": _tokenizer,
}
"""In seconds."""
WHOLE: Mapping[str, Examination[RunConfig]] = {
    **QUICK,
    "training": _training,
    "several processes": _several_processes,
}
"""With the trainings, which take longest."""
