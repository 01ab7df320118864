"""What the experiments compute beside msgrpo's own statistics, against numbers worked out by hand."""

from __future__ import annotations

import runpy

import pytest

from support.places import ROOT

COMPARE = ROOT / "experiments/compare.py"


@pytest.mark.skipif(not COMPARE.is_file(), reason="experiments are not part of this copy")
def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.03, 0.04 times 3, 2, 1: 0.03, 0.06 and 0.04, which may not fall below 0.06."""
    holm = runpy.run_path(str(COMPARE))["holm"]
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
