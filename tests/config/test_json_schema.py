"""The JSON schema for editors: it takes what we ship, and refuses what `config validate` refuses for its shape."""

from __future__ import annotations

import copy
import json
import sys
from functools import lru_cache
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from msgrpo_cli.cli.app import main
from msgrpo_cli.config import trainer_fields
from msgrpo_cli.config.compose import compose, config_dir
from msgrpo_cli.config.json_schema import config_schema
from msgrpo_cli.config.saved import dumped

PARTS = sorted((config_dir() / "experiment").glob("*.yaml")) + sorted((config_dir() / "model").glob("*.yaml"))


@lru_cache
def validator(partial: bool) -> Draft202012Validator:
    schema = config_schema(partial=partial)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def problems(config: Any, *, partial: bool = False) -> list[str]:
    return [f"{'.'.join(map(str, e.path))}: {e.message}" for e in validator(partial).iter_errors(config)]


@pytest.mark.parametrize("overrides", [[], ["experiment=paper_frozenlake"], ["experiment=smoke"]])
def test_a_composed_config_fits(overrides: list[str]) -> None:
    assert problems(dumped(compose("train", overrides))) == []


@pytest.mark.parametrize("file", [*PARTS, config_dir() / "train.yaml"], ids=lambda file: file.stem)
def test_a_shipped_part_fits_the_partial_schema(file: Any) -> None:
    assert problems(yaml.safe_load(file.read_text()), partial=True) == []


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("algo", "scale", "groups"),
        ("algo", "group_size", 1),
        ("algo", "sample_fraction", 0),
        ("algo", "scal", "group"),
        ("rollout", "temperature", "hot"),
        ("trainer", "learning_rat", 1e-3),
        ("trainer", "learning_rate", "fast"),
        ("trainer", "learning_rate", -1.0),
        ("trainer", "num_generations", 4),  # algo.group_size owns it
        ("trainer", "optim", "adamm"),
        ("trainer", "bf16", "yes"),
        ("model", "init", "zeros"),
    ],
)
@pytest.mark.parametrize("partial", [False, True])
def test_mistakes_are_marked(section: str, key: str, value: Any, partial: bool) -> None:
    config = copy.deepcopy(dumped(compose("train", [])))
    config[section][key] = value
    assert len(problems(config, partial=partial)) == 1


def test_every_field_of_trl_that_has_no_other_owner_is_in_it_with_its_default() -> None:
    known = config_schema()["properties"]["trainer"]["properties"]
    assert sorted(known) == sorted(trainer_fields.free_fields())
    defaults = {name: field["default"] for name, field in trainer_fields.fields().items() if name in known}
    for name, value in defaults.items():
        assert problems({"trainer": {name: value}}, partial=True) == [], name


def test_a_missing_key_is_marked_in_a_whole_config_only() -> None:
    config = dumped(compose("train", []))
    del config["algo"]["scale"]
    assert problems(config) == ["algo: 'scale' is a required property"]
    assert problems(config, partial=True) == []


@pytest.mark.parametrize("flags", [[], ["--partial"]])
def test_the_command_prints_it(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["msgrpo", "config", "schema", *flags])
    monkeypatch.setattr("msgrpo_cli.cli.app.heed_signals", lambda: None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out) == config_schema(partial=bool(flags))
