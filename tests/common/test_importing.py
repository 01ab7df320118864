"""The collector rests while heavy packages are imported, and no longer."""

from __future__ import annotations

import gc

import pytest

from msgrpo_cli.common.importing import importing


def test_the_collector_rests_and_goes_on_whatever_happens() -> None:
    assert gc.isenabled()
    with pytest.raises(ImportError), importing():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()


def test_who_does_without_it_still_does() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
