"""Configs of any shape: what is not taken leaves as UsageError, line by line, and as nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msgrpo_cli.config.compose import compose, validated
from msgrpo_cli.config.saved import dumped, load_saved, saved_text
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import UsageError

REAL = dumped(compose("train", []))
_numbers = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 2**63, 1e308, 1e-320])
_words = st.text(max_size=8) | st.sampled_from(["???", "${seed}", "null", "frozenlake", "msgrpo/FrozenLake-v0", "auto"])
SCALARS = st.none() | st.booleans() | _numbers | _words
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words | st.integers(), inner, max_size=3)
)


def paths(data: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key of a config, as the way to it."""
    found = []
    for key, value in data.items():
        found.append((*prefix, key))
        if isinstance(value, dict):
            found += paths(value, (*prefix, key))
    return found


PATHS = paths(REAL)
GONE = object()


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The real config with another value at one place, or without it."""
    data: dict[str, Any] = copy.deepcopy(REAL)
    node = data
    for key in path[:-1]:
        node = node[key]
    if value is GONE:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return data


def taken_or_told(data: Any) -> None:
    try:
        config = validated(data)
    except UsageError as problem:
        assert str(problem).strip(), "a refusal says why"
    else:
        assert isinstance(config, RunConfig)


EVERY_TIME = pytest.mark.parametrize("times", [1, pytest.param(6, marks=pytest.mark.slow, id="more")])
"""Other examples in every run of the suite; the slow one tries so many more."""


def tried(check: Callable[..., None], count: int, *what: st.SearchStrategy[Any]) -> None:
    settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])(given(*what)(check))()


@EVERY_TIME
def test_any_nested_data(times: int) -> None:
    def check(data: dict[str, Any]) -> None:
        taken_or_told(data)

    tried(check, 50 * times, st.dictionaries(_words | st.sampled_from(list(REAL)), VALUES, max_size=6))


@EVERY_TIME
def test_a_real_config_with_one_thing_changed(times: int) -> None:
    def check(path: tuple[str, ...], value: Any) -> None:
        taken_or_told(changed(path, value))

    tried(check, 100 * times, st.sampled_from(PATHS), VALUES | st.just(GONE))


@EVERY_TIME
def test_a_real_config_with_a_key_more(times: int) -> None:
    def check(path: tuple[str, ...], name: str, value: Any) -> None:
        taken_or_told(changed((*path[:-1], name), value))

    tried(check, 34 * times, st.sampled_from(PATHS), _words, VALUES)


FILES = (
    st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | VALUES.map(lambda value: yaml.safe_dump(value, allow_unicode=False).encode())
    | st.tuples(st.sampled_from(PATHS), VALUES).map(lambda pair: yaml.safe_dump(changed(*pair)).encode())
    | st.integers(0, 2000).map(lambda end: saved_text(validated(REAL)).encode()[:end])
    | VALUES.map(lambda value: yaml.safe_dump({"schema": value} | REAL).encode())
)


@EVERY_TIME
def test_any_saved_file(times: int, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"

    def check(content: bytes) -> None:
        file.write_bytes(content)
        try:
            load_saved(file)
        except UsageError as problem:
            assert all(line.startswith((f"{file}: ", "env.id=")) for line in str(problem).splitlines())

    tried(check, 50 * times, FILES)


_keys = st.sampled_from([".".join(path) for path in PATHS]) | st.text(max_size=5) | st.sampled_from(["env", "+x"])
_odd = ["[1,2]", "{a: 1}", "choice(1,2)", "'", "${env}", "a,b"]
_values = st.text(max_size=10) | SCALARS.map(str) | st.sampled_from(_odd)
_overrides = st.tuples(_keys, st.sampled_from(["=", "", "=="]), _values).map("".join) | st.text(max_size=8)


@EVERY_TIME
def test_any_override(times: int) -> None:
    def check(overrides: list[str]) -> None:
        try:
            assert isinstance(compose("train", overrides), RunConfig)
        except UsageError as problem:
            assert str(problem).strip()

    check(["A\u00b9=''"])  # a key that Hydra's grammar does not know, whose value is a text
    tried(check, 25 * times, st.lists(_overrides, max_size=3))
