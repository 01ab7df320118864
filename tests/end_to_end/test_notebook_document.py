"""docs/first_run.ipynb runs top to bottom on a CPU, in a kernel of the interpreter that runs the tests.

Knows the notebook and what its cells must show. Knows nothing about how a run is trained.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "first_run.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    kernel = tmp_path / "jupyter" / "kernels" / "of_the_tests" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": command, "display_name": "of the tests", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):  # nothing of the user's is read or written
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    (tmp_path / "here").mkdir()
    document = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        document,
        timeout=600,  # seconds for a cell
        kernel_name="of_the_tests",
        resources={"metadata": {"path": str(tmp_path / "here")}},
    ).execute()  # raises where a cell does

    [trained, scored, curve, replayed] = [c["outputs"] for c in document["cells"] if c["cell_type"] == "code"]
    assert "'status': 'done'" in _said(trained)
    assert "optimal (exact)" in _said(scored) and "before training" in _said(scored)
    assert [output["data"]["image/png"] for output in curve]
    assert "episode 1 of 2" in _said(replayed) and "optimal" in _said(replayed)
    [run] = (tmp_path / "here" / "outputs").glob("*/*")
    assert json.loads((run / "run.json").read_text())["status"] == "done"


def _said(outputs: list[Any]) -> str:
    """Everything that a cell printed or returned."""
    return "".join(output.get("text") or output["data"].get("text/plain", "") for output in outputs)
