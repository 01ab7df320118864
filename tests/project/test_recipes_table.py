"""The table of docs/scaling.md is that of experiments/plan/recipes.csv, and its lines are what the plan says today."""

from __future__ import annotations

import csv
import importlib.util
from types import ModuleType
from typing import Any

import pytest

from support.places import ROOT

FOLDER = ROOT / "experiments" / "plan"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="experiments/ is not here")


@pytest.fixture(scope="module")
def recipes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recipes", FOLDER / "recipes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    with (FOLDER / "recipes.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_page_has_the_table(recipes: ModuleType, rows: list[dict[str, Any]]) -> None:
    assert recipes.table(rows) in (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8"), recipes.table(rows)
    assert {row["model"] for row in rows} == set(recipes.MODELS)


def test_the_plan_still_says_so(recipes: ModuleType, rows: list[dict[str, Any]]) -> None:
    model = recipes.MODELS[0]
    said = [row for row in rows if row["model"] == model and row["gpus"] in ("1", "64")]
    first = recipes.planned(model)
    again = [row for gpus in (1, 64) for row in recipes.tried(model, gpus, first)]
    assert [{name: str(row[name]) for name in recipes.COLUMNS} for row in again] == said
