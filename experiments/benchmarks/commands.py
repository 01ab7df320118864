"""CPU seconds of what a person waits for at the prompt: help, TAB, a look at a config.

Knows commands as they are typed. Usage: python commands.py; prints one JSON object of medians. The tests ask what these
commands import and how often they call what; how long that takes is told here, on an idle machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from statistics import median

ROUNDS = 5
COMMANDS = {
    "help": ["--help"],
    "tab_key": ["_complete", "--", "train", "trainer.learn"],
    "tab_option": ["_complete", "--", "train", "env=fro"],
    "config_show": ["config", "show"],
    "dry_run": ["train", "--dry-run"],
}


def cpu_seconds(words: list[str], folder: str) -> float:
    """Of one process, its own children among them."""
    before = os.times()
    subprocess.run([sys.executable, "-m", "msgrpo_cli", *words], cwd=folder, capture_output=True, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as empty:
        found = {name: median(cpu_seconds(words, empty) for _ in range(ROUNDS)) for name, words in COMMANDS.items()}
    print(json.dumps({name: round(seconds, 3) for name, seconds in found.items()} | {"rounds": ROUNDS}))
