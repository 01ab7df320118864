"""The table of architectures in docs/models.md says what the models of the zoo tell of themselves."""

from __future__ import annotations

import pytest

from support.places import ROOT


def test_the_page_has_the_table_of_the_zoo() -> None:
    pytest.importorskip("torch")
    from support.zoo import TITLES, ZOO, table

    assert TITLES.keys() == ZOO.keys()
    assert table() in (ROOT / "docs" / "models.md").read_text(), table()
