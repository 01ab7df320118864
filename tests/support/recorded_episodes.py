"""Lines of episodes.jsonl typed by hand, for tests of what reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def step(observation: str = "P . G", action: str | None = "right", **values: Any) -> Row:
    text = "hm" if action is None else f"<action>{action}</action>"
    return {
        "observation": observation,
        "completion": text,
        "action": action,
        "valid": action is not None,
        "reward": 0.0,
        "optimal_action": "right",
        "regret": 0.0,
        **values,
    }


def episode(*steps: Row, **values: Any) -> Row:
    """An episode of update 1; without steps, of two good ones."""
    played = steps or (step("P . G"), step(". P G", reward=1.0))
    return {
        "schema": 1,
        "kind": "train",
        "update": 1,
        "split": "train",
        "env": "lake",
        "seed": 7,
        "state_key": "00",
        "group": 0,
        "member": 0,
        "total_reward": float(sum(one["reward"] for one in played)),
        "success": True,
        "ended_by": "goal",
        "game_metrics": {},
        "advantage": 0.5,
        "drawn": True,
        "steps": [{"t": t, **one} for t, one in enumerate(played)],
        **values,
    }


def with_regrets(*regrets: float | None, **values: Any) -> Row:
    return episode(*(step(f"at {n}", regret=regret) for n, regret in enumerate(regrets)), **values)


def written(folder: Path, rows: Sequence[Row], tail: str = "") -> Path:
    """A run directory with no more than its episodes."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows) + tail
    (folder / "episodes.jsonl").write_text(text)
    return folder
