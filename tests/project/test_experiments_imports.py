"""The experiments' programs ask msgrpo for names that it has: nothing else runs them when a name moves."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from support.places import ROOT

PROGRAMS = sorted((ROOT / "experiments").glob("*/*.py"))  # none in a source distribution


def _named(program: Path) -> list[tuple[str, str]]:
    imports = [node for node in ast.walk(ast.parse(program.read_text())) if isinstance(node, ast.ImportFrom)]
    return [(node.module, alias.name) for node in imports for alias in node.names if node.module and not node.level]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.relative_to(ROOT / "experiments").as_posix())
def test_what_a_program_imports_is_there(program: Path) -> None:
    lost = []
    for module, name in _named(program):
        if not module.startswith(("msgrpo_cli", "support")):
            continue
        found = importlib.import_module(module)
        if not hasattr(found, name):
            try:
                importlib.import_module(f"{module}.{name}")
            except ModuleNotFoundError:
                lost.append(f"{module}.{name}")
    assert lost == []
