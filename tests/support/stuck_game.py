"""A frozen lake that hangs, is slow or breaks on one rank of several; written where a user's module would lie."""

from __future__ import annotations

from pathlib import Path

MODULE = '''
import os
import threading
import time
from pathlib import Path

import gymnasium
from msgrpo_cli.games.frozenlake import FrozenLake

HERE = Path(__file__).parent
last = 0.0


class Stuck(FrozenLake):
    """Obeys files that lie beside this one, on rank 1 alone: `slow` every round takes three seconds, `stuck` it never
    ends, `broken` it fails."""

    def play(self, action):
        global last
        if os.environ.get("RANK") == "1":
            if (HERE / "stuck").exists():
                wait_for_ever()
            if (HERE / "broken").exists():
                raise ValueError("the ice broke")
            if (HERE / "slow").exists() and time.monotonic() - last > 1.0:
                time.sleep(3.0)
                last = time.monotonic()
        return super().play(action)


def wait_for_ever():
    threading.Event().wait()


gymnasium.register("stuck/Lake-v0", entry_point=Stuck)
'''
KEYS = "name: stuck\nid: stuck_lake:stuck/Lake-v0\nsize: 4\np: 0.8\nslippery: false\nmax_steps: 8\n"


def write_game(folder: Path) -> None:
    """Makes a folder for --config-dir, with the game `env=stuck` in it."""
    (folder / "env").mkdir(parents=True)
    (folder / "stuck_lake.py").write_text(MODULE)
    (folder / "env" / "stuck.yaml").write_text(KEYS)
