"""Runs that differ in nothing but the seed, together; and what differs between those groups.

Knows configs as dotted keys. Knows nothing about scores, statistics or how groups are shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from pydantic import ValidationError

from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.runs.reader import RunData, canonical, differences, flat, written

_CHANGES_NOTHING = ("seed", "note", "engine.note", "schema")
_GAMES, _WEIGHTS = "env.games", "env.weights"
_LONGEST = 60  # characters of a value in a label
_CHOICES = ("env", "model", "prompt", "engine")
"""Config groups that are known by a name, which brings other keys along."""


@dataclass(frozen=True)
class Group:
    """Runs whose configs are equal in everything but the seed."""

    letter: str
    label: str
    """What tells it from the other groups, as one would type it."""
    game: str
    """Equal for groups that play the same game: its name, with what tells it from others of that name."""
    config: Mapping[str, Any]
    """Dotted keys, without seed and notes."""
    runs: tuple[RunData, ...]
    """Those that are done, one for each seed, by seed."""
    others: tuple[RunData, ...]
    """Those that do not count: not done, or a seed that was run again later."""

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs if run.seed is not None]


def grouped(runs: Iterable[RunData]) -> list[Group]:
    """The groups, in the order in which their first runs come; runs whose config is unknown are in none."""
    configs: dict[str, dict[str, Any]] = {}
    members: dict[str, list[RunData]] = {}
    for run in runs:
        if not run.config:
            continue
        config = _of_group(run.config)
        key = json.dumps(config, sort_keys=True, default=str)
        configs[key] = config
        members.setdefault(key, []).append(run)
    typed = {text.lstrip("+~").partition("=")[0] for found in members.values() for r in found for text in r.overrides}
    labels, games = _labels(list(configs.values()), typed), _games(list(configs.values()))
    groups = []
    for number, (key, label, game) in enumerate(zip(configs, labels, games, strict=True)):
        counting = _one_for_each_seed(members[key])
        others = tuple(run for run in members[key] if all(run is not one for one in counting))
        groups.append(Group(letter(number), label, game, configs[key], counting, others))
    return groups


def letter(number: int) -> str:
    """A, B, ..., Z, AA, AB, ... for 0, 1, ...; short, so that tables stay narrow."""
    before, last = divmod(number, len(ascii_uppercase))
    return (letter(before - 1) if before else "") + ascii_uppercase[last]


def _of_group(config: Mapping[str, Any]) -> dict[str, Any]:
    try:
        data = RunConfig.model_validate({k: v for k, v in config.items() if k != "schema"}).model_dump(mode="json")
    except ValidationError:
        data = dict(config)  # of another version: its keys still tell what is equal
    return _by_name({key: value for key, value in flat(data).items() if key not in _CHANGES_NOTHING})


def _by_name(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the games of a mixture by name, and their blocks below: env.games.taxi.max_steps."""
    games = config.get(_GAMES)
    if not (isinstance(games, list) and games and all(isinstance(game, dict) and "name" in game for game in games)):
        return dict(config)
    blocks = {f"{_GAMES}.{game['name']}": {k: v for k, v in game.items() if k != "name"} for game in games}
    return {**config, _GAMES: [game["name"] for game in games], **flat(blocks)}


def _one_for_each_seed(runs: Sequence[RunData]) -> tuple[RunData, ...]:
    """Of a seed that was run several times the one that started last: the same seed twice is no second opinion."""
    latest: dict[int, RunData] = {}
    for run in sorted((run for run in runs if run.counts), key=lambda run: str(run.record.get("start"))):
        assert run.seed is not None
        latest[run.seed] = run
    return tuple(latest[seed] for seed in sorted(latest))


def _labels(configs: Sequence[Mapping[str, Any]], typed: set[str]) -> list[str]:
    differing = differences(configs)
    if not differing:
        return [_told(config, ("env.name", "model.name", _GAMES)) for config in configs]
    chosen: list[str] = [key for key in ("env.name", "model.name") if key in differing]
    chosen += [key for key in differing if key not in chosen and _is_typed(key, typed)]
    for key in differing:  # what the chosen ones bring along tells nothing more
        if key not in chosen and _kinds([*chosen, key], differing) > _kinds(chosen, differing):
            chosen.append(key)
    labels = [_told(config, chosen) for config in configs]
    return labels if len(set(labels)) == len(labels) else [_told(config, chosen, None) for config in configs]


def differing_keys(configs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Every key that is not the same in all configs, with its value in each as written, `-` where there is none.

    Keys of a game that not every mixture holds are left out where no two mixtures differ in them.
    """
    return {
        key: tuple(written(config[key]) if key in config else "-" for config in configs)
        for key in sorted(differences(configs))
        if not key.startswith(f"{_GAMES}.") or _differ(key, configs)
    }


def _differ(key: str, configs: Sequence[Mapping[str, Any]]) -> bool:
    return len({canonical(config[key]) for config in configs if key in config}) > 1


def _games(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each config the game that it plays."""
    of_config: list[dict[str, Any]] = [
        {key: value for key, value in config.items() if key.startswith("env.")} for config in configs
    ]
    distinct = {canonical(game): game for game in of_config}
    told: dict[str, str] = {}
    for key, game in distinct.items():
        name = str(game.get("env.name"))
        own = _telling([other for other in distinct.values() if str(other.get("env.name")) == name])
        said = f"{name} ({_told(game, own)})" if own else name
        told[key] = said if said not in told.values() else f"{name} ({_told(game, own, None)})"
    return [told[canonical(game)] for game in of_config]


def _telling(games: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that differ; of mixtures the names and weights of their games, unless those are the same."""
    differing = differences(games)
    if _GAMES not in games[0]:
        return list(differing)
    named = [_GAMES, *[_WEIGHTS] * (_WEIGHTS in differing)]
    table = {key: [game.get(key) for game in games] for key in (*named, *differing)}
    return named if _kinds(named, table) == len(games) else [*named, *(key for key in differing if key not in named)]


def _told(config: Mapping[str, Any], keys: Sequence[str], longest: int | None = _LONGEST) -> str:
    values = {key: written(config[key]) for key in keys if key in config}
    told = [f"{_short(key)}={value if longest is None else brief(value, longest)}" for key, value in values.items()]
    return ", ".join(told) or "without what the others add"


def brief(text: str, longest: int) -> str:
    """The text on one line, cut to so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 4].rstrip()} ..."


def _is_typed(key: str, typed: set[str]) -> bool:
    return key in typed or _short(key) in typed


def _short(key: str) -> str:
    """`env=snake_8` is how one types env.name."""
    section, _, last = key.rpartition(".")
    return section if last == "name" and section in _CHOICES else key


def _kinds(keys: Sequence[str], table: Mapping[str, Sequence[Any]]) -> int:
    """How many groups these keys tell apart."""
    return len(set(zip(*([canonical(value) for value in table[key]] for key in keys), strict=True))) if keys else 1
