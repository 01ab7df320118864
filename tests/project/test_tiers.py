"""Starting is cheap: what each package pulls in, what commands pull in, and `--help` without any of it."""

from __future__ import annotations

import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import msgrpo_cli
from support.counted import LIST_IMPORTED, STARTING

TORCH = ("torch", "transformers", "trl", "accelerate", "datasets", "peft")
HEAVY = (*TORCH, "matplotlib", "hydra", "scipy", "click")
LIGHT = ("common", "games", "algo", "rollout", "config", "runs", "analysis", "planning", "cli", "notebook")
"""Whose modules pull in nothing heavy when they are imported; `launch` and one module of `config` start Hydra."""
HYDRA = "config.hydra_app"


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=600, check=False)


def modules(*packages: str) -> list[str]:
    """Every module of some packages, by its name within msgrpo_cli, and the lone modules among them."""
    found = [module.name for module in pkgutil.walk_packages(msgrpo_cli.__path__, "msgrpo_cli.")]
    names = [name.removeprefix("msgrpo_cli.") for name in found]
    return [name for name in names if name.partition(".")[0] in packages]


def pulled_in(names: list[str], unwanted: tuple[str, ...]) -> str:
    """What a fresh process holds of the unwanted packages once it has imported all the modules."""
    imports = "\n".join(f"import msgrpo_cli.{name}" for name in names)
    found = _python("-c", f"import sys\n{imports}\nprint([name for name in {unwanted!r} if name in sys.modules])")
    return found.stdout.strip() + found.stderr


def test_light_packages_import_nothing_heavy() -> None:
    names = [name for name in modules(*LIGHT) if name != HYDRA]
    assert len(names) > 100
    assert pulled_in(names, HEAVY) == "[]"


def test_launch_and_hydra_s_own_module_do_without_torch() -> None:
    assert pulled_in([HYDRA, *modules("launch")], TORCH) == "[]"


def test_what_scores_and_what_loads_do_without_trl(finished_run: Path, tmp_path: Path) -> None:
    """Every module of theirs, and then a whole evaluation of a checkpoint, from the command line to its table."""
    pytest.importorskip("torch")
    run = shutil.copytree(finished_run, tmp_path / "run")
    imports = "\n".join(f"import msgrpo_cli.{name}" for name in modules("models", "evaluation"))
    code = (
        f"import sys\n{imports}\nprint('imported', 'trl' in sys.modules)\n"
        "from msgrpo_cli.cli.app import main\n"
        f"sys.argv = ['msgrpo', 'eval', {str(run)!r}, 'eval.episodes=2']\n"
        "try:\n    main()\nexcept SystemExit as end:\n"
        "    print('ended with', end.code, [name for name in ('torch', 'trl') if name in sys.modules])\n"
    )
    first, *_, last = _python("-c", code).stdout.splitlines()
    assert (first, last) == ("imported False", "ended with None ['torch']")


COMMANDS = (
    "",
    "train",
    "eval",
    "sweep",
    "export",
    "doctor",
    "completion",
    "config",
    "config show",
    "report",
    "compare",
    "runs",
    "replay",
    "watch",
    "rerun",
    "plan",
)


def test_help() -> None:
    """One process asks them all in turn, `msgrpo --help` first: a package that one of them imports stays."""
    code = (
        "import sys\nfrom msgrpo_cli.cli.app import main\n"
        f"for command in {COMMANDS!r}:\n"
        "    sys.argv = ['msgrpo', *command.split(), '--help']\n"
        "    try:\n        main()\n    except SystemExit as end:\n        print('ended with', end.code)\n"
        f"    exec({LIST_IMPORTED!r})\n"
    )
    done = _python("-c", code)
    for command in COMMANDS:
        said, _, rest = done.stdout.partition("ended with 0\n")
        packages, _, done.stdout = rest.partition("\n")
        assert said.startswith(" ".join(["Usage: msgrpo", *command.split()])), done.stderr
        assert set(packages.split()) <= STARTING, command
    assert done.stdout == ""


def test_help_of_the_program_itself() -> None:
    assert _python("-m", "msgrpo_cli", "--help").stdout.startswith("Usage: ")


def test_nothing_at_import_needs_what_windows_lacks() -> None:
    """Modules and signals of Unix alone are hidden: the program still starts, and every module but torch's imports."""
    hidden = ("fcntl", "termios", "tty", "pty", "resource", "grp", "pwd")
    code = (
        "import signal, sys\n"
        "import hydra, pydantic, rich, typer, psutil, numpy, gymnasium, huggingface_hub\n"
        f"for name in {hidden!r}:\n    sys.modules[name] = None\n"
        "for name in ('SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGKILL', 'setitimer', 'ITIMER_REAL'):\n"
        "    delattr(signal, name)\n"
    )
    imports = "\n".join(f"import msgrpo_cli.{name}" for name in modules(*LIGHT, "launch"))
    start = "from msgrpo_cli.cli.app import main\nsys.argv = ['msgrpo', '--version']\nmain()\n"
    ended = _python("-c", f"{code}{imports}\n{start}")
    assert ended.returncode == 0 and ended.stdout.startswith("msgrpo "), ended.stderr
