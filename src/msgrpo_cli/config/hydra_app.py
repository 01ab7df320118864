"""The one module that knows Hydra: looking at a config, expanding a sweep, running jobs.

Knows Hydra's public interface (`compose`, `hydra.main`, a search path plugin, resolvers) and its override grammar.
Knows nothing about what the keys mean, nor what a job does. Mistakes leave as UsageError, one line each.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import re
import secrets
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep as IntervalSweep
from hydra.core.override_parser.types import Override as Override
from hydra.core.override_parser.types import RangeSweep as RangeSweep
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from msgrpo_cli.common.secrets import refuse_in_overrides
from msgrpo_cli.common.text import one_line
from msgrpo_cli.errors import UsageError, shown

from . import trainer_fields
from .problems import composition_mistake, missing_option

VERSION_BASE = "1.3"
Job = Callable[[dict[str, Any], Path, list[str]], None]
"""Takes the composed config as plain data, the run directory that Hydra made, and the job's overrides."""

_PLAIN_NAME = re.compile(r"[+~]{0,2}[A-Za-z_][A-Za-z0-9_@./-]*=[^\[\]{},()$=]*['\"<>\u0080-\U0010ffff][^\[\]{},()$=]*")
"""An override whose value has quotes or letters that Hydra's grammar does not know: such a value is a text."""
_SHOWN = 80  # characters of an override that is too long to be repeated
_MOST_JOBS = 10_000
_DIRECTORIES = ("hydra.run.dir", "hydra.sweep.dir")
_user_folders: list[Path] = []  # read by the plugin, which Hydra instantiates without arguments


class UserFolders(SearchPathPlugin):
    """Puts users' config folders before ours, so that they add options and may replace one."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in reversed(_user_folders):
            search_path.prepend("msgrpo", f"file://{folder}", anchor=None)


def register_resolvers() -> None:
    """`msgrpo.uid`, `msgrpo.hash`, `msgrpo.for_each`; called at import, because a launcher's workers need them too."""
    OmegaConf.register_new_resolver("msgrpo.uid", _uid, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("msgrpo.hash", hash_of_overrides, replace=True)
    OmegaConf.register_new_resolver("msgrpo.for_each", _for_each, replace=True)
    Plugins.instance().register(UserFolders)


def _for_each(number: int, processes: int | None) -> int:
    """For all processes of a node; one where their number is not said."""
    return number * (processes or 1)


def _uid(digits: int) -> str:
    return secrets.token_hex(digits)[:digits]


def hash_of_overrides(overrides: Sequence[str]) -> str:
    """Names a sweep's job directory: the same overrides give the same name, whatever the other jobs are."""
    return hashlib.sha256("\0".join(overrides).encode()).hexdigest()[:12]


register_resolvers()


@contextmanager
def _looking(folder: Path, user_folders: Sequence[Path]) -> Iterator[None]:
    _user_folders[:] = user_folders
    with initialize_config_dir(str(folder), version_base=VERSION_BASE):
        yield


@contextmanager
def apart_from_the_callers() -> Iterator[None]:
    """Lay aside a Hydra that the calling program has initialized for itself, since there can be one at a time."""
    before, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = before  # Hydra may have replaced the instance meanwhile


def parse(overrides: Sequence[str]) -> list[Override]:
    """The parsed overrides; UsageError names the first that is none."""
    refuse_in_overrides(overrides)
    parser = OverridesParser.create()
    parsed: list[Override] = []
    for text in overrides:
        try:
            parsed += parser.parse_overrides([text])
        except HydraException as problem:
            if _PLAIN_NAME.fullmatch(text):
                key, _, value = text.partition("=")
                parsed += parser.parse_overrides([f"{key}={quoted(value)}"])
                continue
            reason = one_line(problem)
            vague = reason.startswith(("LexerNoViableAltException", "Error parsing override"))
            said = f"{shown(text)}: not an override KEY=VALUE"
            if "=" in (value := text.partition("=")[2]):
                whole = f"{text.partition('=')[0]}={quoted(value)}"
                raise UsageError(f"{said}; a value that holds '=' is quoted twice: {shlex.quote(whole)}") from problem
            raise UsageError(said if vague else f"{said}; {reason}") from problem
        except (RecursionError, ValueError) as problem:  # brackets without end, a number of thousands of digits
            raise UsageError(f"{shown(text[:_SHOWN])}: not an override KEY=VALUE; {one_line(problem)}") from problem
    return parsed


def completed(overrides: Sequence[str]) -> list[str]:
    """The overrides as Hydra takes them: a field of the trainer that our files do not list is added, not unknown."""
    return [
        f"++{override.input_line}"
        if override.key_or_group.startswith("trainer.")
        and override.key_or_group.removeprefix("trainer.") in trainer_fields.fields()
        and not (override.is_add() or override.is_force_add() or override.is_delete())
        else str(override.input_line)
        for override in parse(overrides)
    ]


def look(
    folder: Path, primary: str, overrides: Sequence[str], user_folders: Sequence[Path], with_hydra: bool = False
) -> DictConfig:
    """The composed config, unresolved. Raises UsageError in the user's words."""
    _refuse_sweeps(overrides, [folder, *user_folders])
    with _looking(folder, user_folders):
        try:
            return hydra_compose(primary, completed(overrides), return_hydra_config=with_hydra)
        except MissingConfigException as problem:
            raise UsageError(missing_option(problem.missing_cfg_file, problem.options)) from problem
        except HydraException as problem:
            raise UsageError(composition_mistake(problem, overrides)) from problem
        except OmegaConfBaseException as problem:
            raise UsageError(one_line(problem)) from problem


def plain(config: DictConfig) -> dict[str, Any]:
    """The config as plain data, interpolations resolved; missing values stay `???`."""
    try:
        data = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as problem:
        raise UsageError(f"{problem.full_key}: {one_line(problem)}") from problem
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items()}


def unresolved(config: DictConfig) -> dict[str, Any]:
    """The config as plain data, interpolations as they are written."""
    data = OmegaConf.to_container(config, resolve=False, throw_on_missing=False)
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items()}


def assignments(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """Overrides as (dotted key, value), for a config that is already composed."""
    parsed = parse(overrides)
    for text, override in zip(overrides, parsed, strict=True):
        if override.is_sweep_override():
            raise UsageError(f"{text}: several values where one is meant")
    return [(override.key_or_group, override.value()) for override in parsed]


def job_directory(
    folder: Path, primary: str, overrides: Sequence[str], user_folders: Sequence[Path], multirun: bool
) -> Path:
    """Where Hydra would put the run, or the sweep, if it started now."""
    config = look(folder, primary, overrides, user_folders, with_hydra=True)
    try:
        return Path(config.hydra.sweep.dir if multirun else config.hydra.run.dir)
    except OmegaConfBaseException as problem:
        raise UsageError(f"hydra.{'sweep' if multirun else 'run'}.dir: {one_line(problem)}") from problem


def settings(
    folder: Path, primary: str, overrides: Sequence[str], user_folders: Sequence[Path], part: str
) -> dict[str, Any]:
    """Those of the chosen `launcher` or `sweeper`."""
    config = look(folder, primary, overrides, user_folders, with_hydra=True)
    return dict(OmegaConf.to_container(config.hydra[part], resolve=False) or {})  # type: ignore[arg-type]


def sizes(
    folder: Path, primary: str, overrides: Sequence[str], user_folders: Sequence[Path], names: Sequence[str]
) -> dict[str, Any]:
    """What the chosen launcher would ask for, of these settings, as far as it has them. Raises UsageError for one that
    has no value."""
    launcher = look(folder, primary, overrides, user_folders, with_hydra=True).hydra.launcher
    try:
        return {name: launcher[name] for name in names if name in launcher}
    except OmegaConfBaseException as problem:
        raise UsageError(f"hydra.launcher: {one_line(problem)}") from problem


def corners(overrides: Sequence[str]) -> list[list[str]]:
    """Of a space that a sweeper searches: jobs in which every value, and both ends of every interval, come once."""
    steady, swept = [], []
    for text, override in zip(overrides, parse(overrides), strict=True):
        if not override.is_sweep_override():
            steady.append(text)
            continue
        key, value = override.get_key_element(), override.value()
        ends = [str(value.start), str(value.end)] if isinstance(value, IntervalSweep) else []
        ends = ends or list(itertools.islice(override.sweep_string_iterator(), _MOST_JOBS))
        swept.append([f"{key}={end}" for end in ends])
    first = [values[0] for values in swept]
    others = [[*first[:n], text, *first[n + 1 :]] for n, values in enumerate(swept) for text in values[1:]]
    return [[*steady, *job] for job in (first, *others)]


def without_sweeps(overrides: Sequence[str]) -> list[str]:
    """The overrides that have one value."""
    parsed = zip(overrides, parse(overrides), strict=True)
    return [text for text, override in parsed if not override.is_sweep_override()]


def expand(
    folder: Path, primary: str, overrides: Sequence[str], user_folders: Sequence[Path]
) -> list[list[str]] | None:
    """Every job's overrides, as Hydra's own sweeper makes them; None where another sweeper chooses them."""
    config = look(folder, primary, without_sweeps(overrides), user_folders, with_hydra=True)
    if not str(config.hydra.sweeper._target_).endswith(".BasicSweeper"):
        return None
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    with _looking(folder, user_folders):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        choices: dict[str, list[str]] = {}
        for override in parser.parse_overrides([*params, *completed(overrides)]):
            key = override.get_key_element()
            if override.is_sweep_override():
                if not override.is_discrete_sweep():
                    raise UsageError(f"{override.input_line}: an interval needs another sweeper, such as optuna's")
                values = itertools.islice(override.sweep_string_iterator(), _MOST_JOBS + 1)
                choices[key] = [f"{key}={value}" for value in values]
            elif override.is_hydra_override() or override.is_delete():
                choices[key] = [override.input_line or key]
            else:
                choices[key] = [f"{key}={override.get_value_element_as_str()}"]
    steady_hydra = [key for key in choices if key.lstrip("+~").startswith("hydra")]
    jobs = [texts for key, texts in choices.items() if key not in steady_hydra]
    if math.prod(map(len, jobs)) > _MOST_JOBS:
        raise UsageError(f"{' '.join(overrides)[:_SHOWN]}: more than {_MOST_JOBS} jobs; sweep over less at a time")
    return [list(texts) for texts in itertools.product(*jobs)]


def run_jobs(
    folder: Path,
    primary: str,
    job: Job,
    overrides: Sequence[str],
    directory: Path | None = None,
    flags: Sequence[str] = (),
    multirun: bool = False,
    user_folders: Sequence[Path] = (),
) -> None:
    """Let Hydra run `job`: run directory, `.hydra/`, logging, launchers and sweepers as in any Hydra application.

    `directory` is where `job_directory` said. With `flags` Hydra may print instead of running (`--cfg job`).
    """
    _user_folders[:] = user_folders
    # Flags first: Hydra 1.3 takes what follows an override for another override.
    place = [f"hydra.{'sweep' if multirun else 'run'}.dir={quoted(str(directory))}"] if directory else []
    argv = [sys.argv[0], *(["--multirun"] if multirun else []), *flags, *completed(overrides), *place]
    with _command_line(argv):
        hydra.main(config_path=str(folder), config_name=primary, version_base=VERSION_BASE)(_Adapted(job))()


@dataclass(frozen=True)
class _Adapted:
    """A job as Hydra calls it; a class, because launchers pickle what they run."""

    job: Job

    def __call__(self, config: DictConfig) -> None:
        settings = HydraConfig.get()
        self.job(plain(config), Path(settings.runtime.output_dir), list(settings.overrides.task))


def quoted(text: str) -> str:
    """A value that Hydra's grammar reads as this very text; `${` stands for itself too."""
    plain_dollar = text.replace("${", "\\${")
    return "'" + re.sub(r"(\\*)('|\Z)", _doubled, plain_dollar) + "'"


def _doubled(found: re.Match[str]) -> str:
    """Backslashes before a quote, and the quote itself, as the grammar wants them; others stand for themselves."""
    return found[1] * 2 + ("\\'" if found[2] else "")


@contextmanager
def _command_line(argv: list[str]) -> Iterator[None]:
    """What Hydra reads of the process; HYDRA_FULL_ERROR makes it raise where it would print and exit."""
    before, sys.argv = sys.argv, argv
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = before
        del os.environ["HYDRA_FULL_ERROR"]


def _refuse_sweeps(overrides: Sequence[str], folders: Sequence[Path]) -> None:
    for text, override in zip(overrides, parse(overrides), strict=True):
        key = override.key_or_group
        if override.is_sweep_override():
            raise UsageError(f"{text}: several values where one is meant; use msgrpo sweep (or -m) to run each")
        if not key:
            raise UsageError(f"{text}: not an override KEY=VALUE")
        if key in _DIRECTORIES and not str(override.value() or "").strip():
            raise UsageError(f"{text}: empty; name a directory, or leave it out")
        if not override.is_delete() and any((folder / key).is_dir() for folder in folders):
            _refuse_no_choice(text, key, override.value())


def _refuse_no_choice(text: str, group: str, value: Any) -> None:
    """A group takes the name of one of its files."""
    if isinstance(value, list):
        names = ",".join(map(str, value))
        advice = f"use msgrpo sweep {group}={names} to run each"
        if group == "env":
            advice = f"for several games in one run use env=mix env.games=[{names}], or {advice}"
        raise UsageError(f"{text}: a list where one choice is meant; {advice}")
    if not isinstance(value, str):
        raise UsageError(f"{text}: the name of a choice is meant; a key of it is set with {group}.KEY=VALUE")
