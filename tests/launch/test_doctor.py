"""The doctor's look at packages: against metadata that a folder on the path declares, as pip would leave it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import RunError
from msgrpo_cli.launch import doctor

CONFIG = compose("train", [])


def declare(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str, python: str = ">=3.11") -> None:
    """Metadata of another `msgrpo`, found before the installed one's."""
    place = folder / "msgrpo-9.9.dist-info"
    place.mkdir()
    head = ["Metadata-Version: 2.4", "Name: msgrpo", "Version: 9.9", f"Requires-Python: {python}"]
    (place / "METADATA").write_text("\n".join([*head, *lines]) + "\n")
    monkeypatch.syspath_prepend(folder)


def test_this_installation() -> None:
    pytest.importorskip("torch")
    assert doctor.python(CONFIG).endswith("(<3.14,>=3.11)")
    assert f"torch {version('torch')}" in doctor.packages(CONFIG)
    assert "tensorboard" in doctor.extras(CONFIG).partition(";")[0]
    assert "dev" not in doctor.extras(CONFIG)


def test_a_python_outside_the_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(tmp_path, monkeypatch, python=">=3.99")
    with pytest.raises(RunError, match=r"lies outside >=3\.99"):
        doctor.python(CONFIG)


def test_packages_that_are_missing_or_outside_their_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    declare(
        tmp_path,
        monkeypatch,
        "Requires-Dist: torch>=99",
        "Requires-Dist: no-such-package-here>=1",
        "Requires-Dist: rich>=1",
        "Requires-Dist: nor-this-one; python_version < '3'",
        "Requires-Dist: nor-that-one; extra == 'more'",
    )
    with pytest.raises(RunError) as caught:
        doctor.packages(CONFIG)
    assert str(caught.value) == (
        f"torch {version('torch')} lies outside >=99; no-such-package-here is not installed; "
        "pip install -c constraints.txt installs what is tested"
    )


def test_extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(
        tmp_path,
        monkeypatch,
        "Provides-Extra: a",
        "Provides-Extra: b",
        "Requires-Dist: rich>=1; extra == 'a'",
        "Requires-Dist: no-such-package-here>=1; extra == 'b'",
    )
    assert doctor.extras(CONFIG) == "installed: a; not installed: b"


def test_an_extra_in_a_wrong_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(tmp_path, monkeypatch, "Provides-Extra: a", "Requires-Dist: rich>=99; extra == 'a'")
    with pytest.raises(RunError, match=r"^rich \S+ lies outside >=99$"):
        doctor.extras(CONFIG)
