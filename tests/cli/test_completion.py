"""What TAB offers: words of the command line, asked for directly, as a program, and in the real shells."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from msgrpo_cli.cli.app import app
from msgrpo_cli.cli.command_tree import tree_of
from msgrpo_cli.cli.completion import offers
from support.commands import run
from support.counted import LIST_IMPORTED, STARTING
from support.shells import shell

TREE = tree_of(app)
RUNS = {
    "outputs/2026-01-01/101010-frozenlake-tiny-abcd": "2026-01-01T10:10:10+00:00",
    "outputs/2026-01-02/091500-frozenlake-tiny-0123": "2026-01-02T09:15:00+00:00",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two runs and a user's config folder."""
    for name, start in RUNS.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text(json.dumps({"start": start}))
    (tmp_path / "my games" / "env").mkdir(parents=True)
    (tmp_path / "my games" / "env" / "corridor.yaml").write_text("name: corridor\nid: corridor:me/Corridor-v0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MSGRPO_CONFIG_DIR", raising=False)
    return tmp_path


def offered(line: str) -> list[str]:
    """The words that are offered where `line` ends."""
    return [offer.word for offer in offers(TREE, line.split(" "))]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tr", ["train"]),
        ("config ", ["show", "validate", "schema"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("train --dry", ["--dry-run"]),
        ("train --cfg ", ["job", "hydra", "all"]),
        ("train --cfg=h", ["--cfg=hydra"]),
        ("train --resume ", ["last", "091500-frozenlake-tiny-0123", "101010-frozenlake-tiny-abcd"]),
        ("train --resume 1", ["101010-frozenlake-tiny-abcd"]),
        ("train --config-dir m", ["my games/"]),
        ("train --from outputs/2026-01-01/", ["outputs/2026-01-01/101010-frozenlake-tiny-abcd/"]),
        ("train algo.scale=", ["algo.scale=batch", "algo.scale=group", "algo.scale=none"]),
        ("train --json env=frozenlake_s", ["env=frozenlake_slippery"]),
        ("eval 09", ["091500-frozenlake-tiny-0123"]),
        ("eval last seed=1 poli", ["policy="]),
        ("doctor model=qwen3", ["model=qwen32b", "model=qwen3b"]),
        ("--ver", ["--version"]),
        ("train --allow-module ", []),
        ("nonsense train env=fro", []),
        ("config nonsense ", []),
    ],
)
def test_offers(line: str, expected: list[str]) -> None:
    assert offered(line) == expected


def test_all_commands_are_offered_and_hidden_ones_are_not() -> None:
    assert {"train", "eval", "sweep", "config", "completion", "doctor"} <= set(offered(""))
    assert not [word for word in offered("") if word.startswith("_")]


def test_a_folder_named_on_the_line_adds_its_options(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ["train", "--config-dir", "my games"]
    assert [offer.word for offer in offers(TREE, [*before, "env=co"])] == ["env=corridor"]
    assert offered("train env=co") == []
    monkeypatch.setenv("MSGRPO_CONFIG_DIR", str(folder / "my games"))
    assert offered("train env=co") == ["env=corridor"]


def test_options_carry_their_help() -> None:
    assert [offer.help for offer in offers(TREE, ["train", "--dry"])] == [
        "Compose, check and print; write nothing, load no weights."
    ]


LINES = (["train", "algo.scale="], ["train", "trainer.learn"], ["train", "env=fro"], [""])


def test_tab_imports_only_what_is_quick() -> None:
    """One process asks for all in turn: a package that one of them imports stays."""
    code = (
        "import sys\nfrom msgrpo_cli.cli.app import main\n"
        f"for words in {LINES!r}:\n"
        "    sys.argv = ['msgrpo', '_complete', '--', *words]\n"
        "    try:\n        main()\n    except SystemExit as end:\n        print('ended with', end.code or 0)\n"
        f"{LIST_IMPORTED}"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    *offered, packages = found.stdout.split("ended with 0\n")
    assert [bool(words.strip()) for words in offered] == [True] * len(LINES), found.stderr
    quick = {"numpy", "packaging", "yaml"}  # for the config folders and their schema; no torch, no hydra
    assert set(packages.split()) <= STARTING | quick


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["bash", pytest.param("zsh", marks=pytest.mark.slow), pytest.param("fish", marks=pytest.mark.slow)]
)
def test_in_the_real_shell(name: str, folder: Path) -> None:
    with shell(name, folder) as typist:
        for typed, expected in [
            ("msgrpo tr", "msgrpo train "),
            ("msgrpo config sc", "msgrpo config schema "),
            ("msgrpo completion z", "msgrpo completion zsh "),
            ("msgrpo train --dry", "msgrpo train --dry-run "),
            ("msgrpo train env=frozenlake_s", "msgrpo train env=frozenlake_slippery "),
            ("msgrpo train env=fro", "msgrpo train env=frozenlake"),  # as far as the three agree
            ("msgrpo train env=frozenlake,frozenlake_8", "msgrpo train env=frozenlake,frozenlake_8x8 "),
            ("msgrpo train trainer.learn", "msgrpo train trainer.learning_rate="),
            ("msgrpo train seed=1 algo.scale=g", "msgrpo train seed=1 algo.scale=group "),
            ("msgrpo train model.path=embedded:tiny_r", "msgrpo train model.path=embedded:tiny_random "),
            ("msgrpo train env=frozenlake env.slippery=t", "msgrpo train env=frozenlake env.slippery=true "),
            ("msgrpo train --resume 1", "msgrpo train --resume 101010-frozenlake-tiny-abcd "),
            ("msgrpo train --config-dir my", "msgrpo train --config-dir my\\ games/"),
            ("msgrpo train --config-dir my\\ games env=co", "msgrpo train --config-dir my\\ games env=corridor "),
        ]:
            assert typist.complete(typed) == expected, typist.shown[-2000:]


def test_bash_completes_where_the_cursor_is_and_lists_what_there_is(folder: Path) -> None:
    with shell("bash", folder) as typist:
        left = "\x1b[D"
        assert typist.complete(f"msgrpo train env=frozenlake_s8x8{left * 3}") == (
            "msgrpo train env=frozenlake_slippery8x8"
        )
        assert typist.complete(f"msgrpo train env=frozenlake_s --json{left * 7}") == (
            "msgrpo train env=frozenlake_slippery --json"
        )
        typist.complete("msgrpo train algo.scale=\t")
        assert re.search(r"batch +group +none", typist.shown)


def test_the_scripts_are_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("bash", "zsh", "fish"):
        assert run(monkeypatch, "completion", name) == 0
        found = capsys.readouterr()
        assert "_complete --" in found.out and found.err == ""
    assert run(monkeypatch, "completion", "csh") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "'bash', 'zsh', 'fish'" in said
