"""The house stays one that a stranger can walk through: sizes of rooms and modules, what they say, where tests lie."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from support.places import ROOT

SOURCE, TESTS = ROOT / "src/msgrpo_cli", ROOT / "tests"
MODULES = sorted(SOURCE.rglob("*.py"))
FOLDERS = sorted({module.parent for module in MODULES})
NOT_ROOMS = {"end_to_end", "project", "support"}


def name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def documentation(module: Path) -> str:
    return ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""


def test_no_folder_holds_more_than_26_modules() -> None:
    sizes = {name(folder): sum(one.name != "__init__.py" for one in folder.glob("*.py")) for folder in FOLDERS}
    assert {folder: size for folder, size in sizes.items() if size > 26} == {}


def test_no_module_has_more_than_350_lines() -> None:
    sizes = {name(module): module.read_text(encoding="utf-8").count("\n") for module in MODULES}
    assert {module: size for module, size in sizes.items() if size > 350} == {}


def test_every_module_says_in_its_first_lines_what_it_knows() -> None:
    silent = [name(module) for module in MODULES if "nows" not in documentation(module)]
    assert silent == ["__main__.py"]


@pytest.mark.parametrize("package", [folder for folder in FOLDERS if folder != SOURCE], ids=name)
def test_a_package_is_its_docstring_and_says_what_it_may_import(package: Path) -> None:
    init = package / "__init__.py"
    said = " ".join(documentation(init).split())
    first, *_ = documentation(init).split("\n")
    assert first.endswith(".") and "Knows" in said and ("Knows no" in said or "either" in said or "Loads no" in said)
    assert "May import" in said
    if package.name != "games":  # which registers its games with gymnasium
        assert len(ast.parse(init.read_text(encoding="utf-8")).body) == 1


def test_a_test_lies_where_what_it_tests_lies() -> None:
    """tests/<package>/test_<module>.py, with more words behind where a module has several files."""
    lost = []
    for test in sorted(TESTS.rglob("test_*.py")):
        place = test.parent.relative_to(TESTS)
        if place.parts and place.parts[0] in NOT_ROOMS:
            continue
        modules = [module.stem for module in (SOURCE / place).glob("*.py")]
        words = test.stem.removeprefix("test_")
        if not any(words == module or words.startswith(f"{module}_") for module in modules):
            lost.append(test.relative_to(TESTS).as_posix())
    assert lost == []
