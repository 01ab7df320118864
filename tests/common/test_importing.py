"""The collector rests while heavy packages are imported, and no longer."""

from __future__ import annotations

import gc
import subprocess
import sys

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


def test_what_the_program_imports_stays_and_what_a_notebook_imports_does_not() -> None:
    code = (
        "import gc, sys\n"
        "from msgrpo_cli.common.importing import importing, imports_stay\n"
        "if 'program' in sys.argv:\n"
        "    imports_stay()\n"
        "with importing():\n"
        "    import json.tool\n"
        "print(gc.get_freeze_count() > 0)"
    )
    said = [
        subprocess.run([sys.executable, "-c", code, whose], capture_output=True, text=True, check=True).stdout
        for whose in ("program", "notebook")
    ]
    assert said == ["True\n", "False\n"]


def test_what_a_run_left_behind_does_not_stay_with_what_was_imported_before_it() -> None:
    code = (
        "import gc\n"
        "from msgrpo_cli.common.importing import importing, imports_stay\n"
        "imports_stay()\n"
        "with importing():\n"
        "    import json.tool\n"
        "before, of_a_run = gc.get_freeze_count(), [[] for _ in range(100000)]\n"
        "with importing():\n"
        "    import json.tool\n"
        "print(gc.get_freeze_count() < before + 100000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
