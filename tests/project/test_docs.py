"""README and docs/ against the program: links, pages, commands, options, and every `msgrpo` line on them.

Knows Markdown as forges read it, mkdocs.yml, and the command line. Starts no run and loads no model.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from msgrpo_cli.cli.app import app
from msgrpo_cli.cli.command_tree import Command, tree_of
from msgrpo_cli.cli.options import is_override
from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError

ROOT = Path(__file__).parents[2]
DOCS, SOURCE = ROOT / "docs", ROOT / "src" / "msgrpo_cli"
PAGES = sorted(DOCS.glob("*.md"))
EXAMPLES = DOCS / "examples"
NOTEBOOK = DOCS / "first_run.ipynb"
FILES = [ROOT / "README.md", *PAGES, NOTEBOOK]
SHARED = DOCS / "configuration.md"  # holds the options that many commands have
WHOLE = (ROOT / "experiments").is_dir()  # not so in a source distribution


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    language: str
    lines: tuple[str, ...]


def _text(file: Path) -> str:
    """A page; of a notebook what stands between the code."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        return "\n".join(
            "".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"
        )
    return text


def _parts(file: Path) -> tuple[list[str], list[Block]]:
    """A page's lines outside of fences, and its fenced blocks."""
    outside: list[str] = []
    blocks: list[Block] = []
    inside: list[str] | None = None
    language = ""
    for line in _text(file).splitlines():
        if line.startswith("```"):
            if inside is None:
                inside, language = [], line[3:].strip()
            else:
                blocks.append(Block(language, tuple(inside)))
                inside = None
        else:
            (outside if inside is None else inside).append(line)
    assert inside is None, f"{file.name}: a fence is not closed"
    return outside, blocks


def _slug(heading: str) -> str:
    """The anchor that a forge makes of a heading."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")


def _headings(file: Path) -> list[str]:
    return [line.lstrip("#").strip() for line in _parts(file)[0] if re.match(r"#+ ", line)]


def _links(file: Path) -> list[str]:
    text = re.sub(r"``[^`]*``|(?<!`)`[^`]*`(?!`)", lambda code: "`" * len(code[0]), "\n".join(_parts(file)[0]))
    return re.findall(r"\]\(([^)\s]+)\)", text)


def _relative_links() -> Iterator[Any]:
    for file in FILES:
        for link in dict.fromkeys(_links(file)):
            if not re.match(r"[a-z]+:", link):
                yield pytest.param(file, link, id=f"{file.name}-{link}")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_readme_says_on_which_python_what_was_run() -> None:
    """As `pyproject.toml` declares them and as the page of development tells it."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    versions = sorted(found[1] for one in declared if (found := re.search(r":: (3\.\d+)$", one)))
    assert len(versions) > 1
    for file in (ROOT / "README.md", DOCS / "development.md"):
        rows = [line for line in _parts(file)[0] if re.match(r"\| 3\.\d", line)]
        told = {version for row in rows for version in re.findall(r"3\.\d\d", row.split("|")[1])}
        assert sorted(told) == versions, file


@pytest.mark.parametrize("name", ["quickstart.md", "architecture.md"])
def test_the_first_pages_are_read_in_five_minutes(name: str) -> None:
    assert len(" ".join(_parts(DOCS / name)[0]).split()) <= 1300, "words outside of fences, some 250 a minute"


@pytest.mark.parametrize(("file", "link"), list(_relative_links()))
def test_a_link_leads_somewhere(file: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (file.parent / path).resolve() if path else file
    if not WHOLE and "experiments" in target.parts:
        pytest.skip("experiments/ is not here")
    assert target.is_file(), link
    if file.parent == DOCS:
        assert target.parent in (DOCS, EXAMPLES), "mkdocs builds docs/ alone; name other files as code"
    if anchor:
        assert anchor in map(_slug, _headings(target)), link


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_headings_have_one_anchor_each_and_the_same_everywhere(file: Path) -> None:
    """A forge numbers equal ones, and mkdocs draws hyphens together."""
    slugs = list(map(_slug, _headings(file)))
    assert len(set(slugs)) == len(slugs)
    assert not [slug for slug in slugs if "--" in slug or slug.strip("-") != slug]


def test_every_page_is_in_the_navigation_and_in_the_index() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["plugins"] == []
    found: list[str] = []

    def walk(entries: Sequence[Any]) -> None:
        for entry in entries:
            if isinstance(entry, str):
                found.append(entry)
            else:
                for below in entry.values():
                    walk(below if isinstance(below, list) else [below])

    walk(settings["nav"])
    assert sorted(found) == [page.name for page in PAGES]
    assert {page.name for page in PAGES} - {"index.md"} <= set(_links(DOCS / "index.md"))


def test_mkdocs_builds_the_pages_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def _named(kind: str, files: Sequence[Path] = FILES) -> list[Any]:
    """Paths of this kind that stand on a page as code, such as `conf/env/gym.yaml`."""
    found = {
        name: file.name
        for file in files
        for name in re.findall(rf"`({kind})`", "\n".join(_parts(file)[0]))
        if not re.search(r"[<>*X]", name)
    }
    return [pytest.param(name, id=f"{file}-{name}") for name, file in sorted(found.items())]


@pytest.mark.parametrize("name", _named(r"(?:conf|experiments|\.ci)/[\w./-]*|constraints[\w-]*\.txt"))
def test_a_path_that_a_page_names_is_there(name: str) -> None:
    if not WHOLE and name.startswith(("experiments", ".ci")):
        pytest.skip("a source distribution leaves it out")
    assert (ROOT / name).exists()


NOT_THERE = {
    "site/": "made by `make docs`",
    "perf/": "of metrics",
    "training/parallel.py": "the place for what follows",
}
OF_CONTRIBUTORS = [DOCS / name for name in ("architecture.md", "development.md", "games.md")]


@pytest.mark.parametrize("name", _named(r"[a-z_]+(?:/[a-z_]+)*/(?:[a-z_]+\.py)?", OF_CONTRIBUTORS))
def test_a_module_that_a_page_names_is_there(name: str) -> None:
    if name in NOT_THERE:
        pytest.skip(NOT_THERE[name])
    assert any((folder / name).exists() for folder in (SOURCE, ROOT)) or any(SOURCE.rglob(name))


def test_the_rooms_of_the_page_are_the_packages() -> None:
    rows = [re.findall(r"^\| `(\w+)` \| (.*?) \|", line) for line in _parts(DOCS / "architecture.md")[0]]
    rooms = {package: re.findall(r"`([a-z_]+)/?`", said) for [(package, said)] in filter(None, rows)}
    folders = {folder.name for folder in SOURCE.iterdir() if (folder / "__init__.py").is_file()}
    assert set(rooms) == folders
    missing = [
        f"{package}/{name}"
        for package, names in rooms.items()
        for name in names
        if not any((SOURCE / package / ending).exists() for ending in (name, f"{name}.py"))
    ]
    assert not missing


def _commands(command: Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Command]]:
    for word, below in command.commands.items():
        yield (*words, word), below
        yield from _commands(below, (*words, word))


COMMANDS = dict(_commands(tree_of(app)))


def _page_of(words: Sequence[str]) -> Path:
    """The page with a heading that names the command, or the group that it belongs to."""
    for length in range(len(words), 0, -1):
        wanted = f"`msgrpo {' '.join(words[:length])}"
        for page in PAGES:
            if any(heading.startswith((f"{wanted}`", f"{wanted} ")) for heading in _headings(page)):
                return page
    raise AssertionError(f"no page has a heading for msgrpo {' '.join(words)}")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_and_option_has_its_page(words: tuple[str, ...]) -> None:
    page, shared = (file.read_text(encoding="utf-8") for file in (_page_of(words), SHARED))
    assert f"msgrpo {' '.join(words)}" in page
    missing = [
        name
        for name in COMMANDS[words].options
        if not any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) for text in (page, shared))
    ]
    assert not missing


def test_every_command_is_in_the_readme() -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [words[0] for words in COMMANDS if not re.search(rf"\[`(msgrpo )?{words[0]}\b", table)]
    assert not missing


def test_the_options_of_msgrpo_itself_are_told() -> None:
    assert all(f"`msgrpo {name}`" in SHARED.read_text(encoding="utf-8") for name in tree_of(app).options)


def _lines() -> list[Any]:
    """Every `msgrpo ...` of a shell block, and every one in running text."""
    found: dict[str, str] = {}
    for file in FILES:
        outside, blocks = _parts(file)
        for block in blocks:
            if block.language in ("", "sh", "bash", "console"):
                for line in "\n".join(block.lines).replace("\\\n", " ").splitlines():
                    for text in re.findall(r"^(?:\$ )?(msgrpo .*)|\$\((msgrpo [^)]*)\)", line):
                        found.setdefault((text[0] or text[1]).partition("  #")[0].strip(), file.name)
        for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", "\n".join(outside)):
            text = " ".join(code.split())
            if re.match(r"(?:[A-Z_]+=\S+ )*msgrpo [^.\s]", text):
                found.setdefault(text[text.index("msgrpo ") :], file.name)
    for line in _example_lines():
        found.setdefault(line, "examples")
    return [pytest.param(line, id=f"{file}-{line[7:60].strip()}") for line, file in found.items()]


def _example_lines() -> list[str]:
    """What the image and the task for a cloud call."""
    task = yaml.safe_load((EXAMPLES / "sky.yaml").read_text(encoding="utf-8"))
    image = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8")
    [entry], [usual] = (re.findall(rf"^{word} (.*)$", image, re.MULTILINE) for word in ("ENTRYPOINT", "CMD"))
    called = [
        *re.findall(r"^#.* (msgrpo train .*)$", image, re.MULTILINE),
        " ".join(json.loads(entry) + json.loads(usual)),
    ]
    return [*re.findall(r"^ *(msgrpo .*)$", task["run"], re.MULTILINE), *called]


def test_the_examples_are_read() -> None:
    assert len(_example_lines()) == 5
    assert all("ot run:" in text or "ot built:" in text for text in (one.read_text() for one in EXAMPLES.iterdir()))


LINES = _lines()
NEEDS = {
    "babyai": "minigrid",
    "textarena": "textarena",
    "openspiel": "pyspiel",
    "openspiel_seats": "pyspiel",
    "experiment=selfplay": "pyspiel",
    "tensorboard": "tensorboard",
    "hydra/launcher=joblib": "hydra_plugins.hydra_joblib_launcher",
    "hydra/launcher=slurm": "hydra_plugins.hydra_submitit_launcher",
    "hydra/sweeper=optuna": "optuna",
}


@pytest.fixture
def beside_the_users_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds what the pages tell the reader to write."""
    for name, start in {
        "my_games/corridor.py": "# corridor.py",
        "my_games/env/corridor.yaml": "# my_games/env/corridor",
        "my_games/hiding.py": "# hiding.py",
        "my_games/env/hiding.yaml": "# my_games/env/hiding",
    }.items():
        [block] = [one for one in _parts(DOCS / "games.md")[1] if one.lines and one.lines[0].startswith(start)]
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("\n".join(block.lines))
    [head] = [one for one in _parts(SHARED)[1] if one.language == "yaml"]
    (tmp_path / "my_configs" / "experiment").mkdir(parents=True)
    (tmp_path / "my_configs" / "experiment" / "mine.yaml").write_text("\n".join([*head.lines, "seed: 7"]))
    monkeypatch.setenv("MSGRPO_CONFIG_DIR", "my_configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    return tmp_path


def test_bash_reads_every_line() -> None:
    bash = shutil.which("bash") or pytest.skip("bash is not here")
    lines = "\n".join(parameter.values[0] for parameter in LINES)
    done = subprocess.run([bash, "-n"], input=lines, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"] is not None]


def test_the_pages_hold_many_lines() -> None:
    """Or else they are not found."""
    assert len(LINES) > 100


@pytest.mark.usefixtures("beside_the_users_folders")
@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_pages_is_understood(line: str) -> None:
    for word, module in NEEDS.items():
        if word in line and not _is_there(module):
            pytest.skip(f"{module} is not installed here")
    understand(line)


def understand(line: str) -> None:
    """Parse a line as the program does, and compose its config; an override that ends in `...` is left out."""
    words, given = _parsed(list(_up_to_the_shell_s(shlex.split(line, comments=True)[1:])))
    texts = [text for name in ("overrides", "arguments") for text in given.get(name) or ()]
    overrides = [text for text in texts if is_override(text) and "..." not in text]
    folders = given.get("config_dir") or []
    if words == ("sweep",) or given.get("multirun"):
        if overrides:
            _check_sweep(overrides, folders)
    elif words[:1] in (("env",), ("play",)):
        names = [text for text in texts if not is_override(text)]
        primary = "eval" if words == ("play",) else "train"
        _compose(primary, (*(f"env={name}" for name in names), *overrides), tuple(folders))
    else:
        _compose("eval" if words == ("eval",) else "train", tuple(overrides), tuple(folders))


@lru_cache
def _compose(primary: str, overrides: tuple[str, ...], folders: tuple[Path, ...]) -> None:
    """Once for lines that say the same; one without overrides says nothing."""
    if overrides:
        compose(primary, overrides, folders)


def _check_sweep(overrides: Sequence[str], folders: Sequence[Path]) -> None:
    """Every override of its jobs once: composing all takes long. A job of known ones is taken for the last."""
    from msgrpo_cli.launch import sweep

    seen: set[str] = set()
    composed: list[Any] = []

    def check(job: Sequence[str], dirs: Sequence[Path], weights: Path | None) -> Any:
        new = {text for text in job if not text.startswith("seed=")} - seen
        seen.update(new)
        if new or not composed:
            composed.append(compose("train", job, dirs))
        return composed[-1]

    sweep.plan(overrides, folders, check=check)


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _up_to_the_shell_s(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word in ("|", ">", "&&", ";"):
            return
        yield word


def _parsed(left: list[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The command's words and its parameters, by the program's own parser; the work is not begun."""
    command: Any = typer.main.get_command(app)
    words: list[str] = []
    while hasattr(command, "commands") and left and not left[0].startswith("-"):
        assert left[0] in command.commands, f"msgrpo {' '.join([*words, left[0]])}: no such command"
        words.append(left.pop(0))
        command = command.commands[words[-1]]
    if hasattr(command, "commands") or left == ["--help"]:  # a group is named, or an option that ends the program
        assert set(left) <= {"--help", "--version"}, f"{left}: no such option"
        return tuple(words), {}
    if not left and any(parameter.required for parameter in command.params):  # named in running text
        return tuple(words), {}
    return tuple(words), command.make_context(" ".join(words), left).params


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("msgrpo trian", "no such command"),
        ("msgrpo replay last --wurst 3", "No such option: --wurst"),
        ("msgrpo runs list --sort", "requires an argument"),
        ("msgrpo --verzion", "no such option"),
        ("msgrpo train evn=frozenlake", "evn"),
        ("msgrpo eval RUN eval.split=tset", "eval.split"),
        ("msgrpo sweep seed=0,1 env=frozenlake,frozenlak", "frozenlak"),
        ("msgrpo env check sokobn", "sokobn"),
    ],
)
def test_a_wrong_line_is_not_understood(line: str, reason: str, beside_the_users_folders: Path) -> None:
    with pytest.raises((typer.TyperException, UsageError, AssertionError), match=re.escape(reason)):
        understand(line)
