"""Starting is cheap: what each module pulls in, and `--help` without any of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "trl", "accelerate", "datasets", "matplotlib", "hydra", "scipy", "click")
LIGHT = (
    "adapter_files",
    "api_schema",
    "architecture",
    "base_license",
    "checkpoint",
    "cli",
    "command_tree",
    "completion",
    "config",
    "config_schema",
    "credentials",
    "doctor",
    "doctor_install",
    "doctor_machine",
    "dry_run",
    "engines",
    "episode",
    "episode_file",
    "errors",
    "expected_play",
    "explain",
    "followed_rows",
    "freshness",
    "games",
    "games.frozenlake",
    "games.registry",
    "hardware",
    "interruption",
    "kept_answers",
    "kept_episodes",
    "memory",
    "memory_plan",
    "model_paths",
    "notebook",
    "override_completion",
    "parameters",
    "phase_file",
    "plan",
    "plan_advice",
    "plan_commands",
    "players",
    "precision",
    "probe",
    "replay",
    "replay_page",
    "replay_screen",
    "replay_terminal",
    "report",
    "report_commands",
    "reporting",
    "rerun",
    "resume",
    "rollout",
    "run_list",
    "runs",
    "schema",
    "see_commands",
    "seeding",
    "split",
    "sweep_commands",
    "sweep_record",
    "time_plan",
    "trainer_fields",
    "watch",
    "watchdog",
    "whole_files",
)


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_light_modules_import_nothing_heavy() -> None:
    imports = "\n".join(f"import msgrpo_cli.{name}" for name in LIGHT)
    found = _python("-c", f"import sys\n{imports}\nprint([name for name in {HEAVY!r} if name in sys.modules])")
    assert (found.stdout.strip(), found.stderr) == ("[]", "")


@pytest.mark.parametrize("module", ["hydra_app", "jobs", "sweep"])
def test_hydra_s_modules_do_without_torch(module: str) -> None:
    code = f"import sys, msgrpo_cli.{module}; print([name for name in ('torch', 'trl') if name in sys.modules])"
    assert _python("-c", code).stdout.strip() == "[]"


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


@pytest.mark.parametrize("command", [text.split() for text in COMMANDS])
def test_help(command: list[str]) -> None:
    code = (
        "import sys\nfrom msgrpo_cli.cli.app import main\n"
        f"sys.argv = ['msgrpo', *{command!r}, '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n"
        f"    print(end.code, [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    lines = _python("-c", code).stdout.strip().splitlines()
    assert lines[0].startswith(" ".join(["Usage: msgrpo", *command]))
    assert lines[-1] == "0 []"


def test_help_is_quick() -> None:
    used = os.times()
    assert _python("-m", "msgrpo_cli", "--help").returncode == 0
    after = os.times()
    seconds = after.children_user + after.children_system - used.children_user - used.children_system
    assert seconds < 1.0, "CPU seconds; 0.2 on a free core"
