"""Episodes as lines of JSON, and back.

Knows the lines of episodes.jsonl. Knows nothing about run directories, models or training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgrpo_cli.episode import Completion, Episode, Start, Step

SCHEMA = 1


def episode_to_json(
    episode: Episode,
    *,
    kind: str,
    update: int | None,
    split: str,
    advantage: float | None = None,
    step_advantages: Sequence[float] = (),
    drawn: bool | None = None,
) -> dict[str, Any]:
    """One line of episodes.jsonl; `kind` is "train" or "eval".

    `advantage` is that of a training episode, the mean of its steps'. Where those differ each step holds its own too.
    """
    differ = len(set(step_advantages)) > 1
    of_steps = [{"advantage": float(value)} for value in step_advantages] if differ else [{}] * len(episode.steps)
    return {
        "schema": SCHEMA,
        "kind": kind,
        "update": update,
        "split": split,
        "env": episode.env,
        "seed": episode.start.seed,
        "state_key": episode.state_key.hex(),
        "group": episode.start.group,
        "member": episode.start.member,
        "total_reward": episode.total_reward,
        "success": episode.success,
        "ended_by": episode.ended_by,
        "game_metrics": dict(episode.game_metrics),
        "advantage": advantage,
        "drawn": drawn,
        "steps": [
            {
                "t": t,
                "observation": step.observation,
                "completion": step.completion.text,
                "action": step.action,
                "valid": step.valid,
                "reward": step.reward,
                "optimal_action": step.optimal_action,
                "regret": step.regret,
                **own,
            }
            for t, (step, own) in enumerate(zip(episode.steps, of_steps, strict=True))
        ],
    }


def episode_from_json(line: dict[str, Any]) -> Episode:
    """The episode behind a line; token ids and the state keys of later steps are not logged and stay empty."""
    first_key = bytes.fromhex(line["state_key"])
    steps = tuple(
        Step(
            observation=step["observation"],
            completion=Completion(step["completion"], step["action"] if step["valid"] else None),
            action=step["action"],
            reward=step["reward"],
            state_key=b"" if step["t"] else first_key,
            optimal_action=step["optimal_action"],
            regret=step["regret"],
        )
        for step in line["steps"]
    )
    at_limit = line["ended_by"] == "step limit"
    return Episode(
        env=line["env"],
        start=Start(line["seed"], line["group"], line["member"], ()),
        steps=steps,
        terminated=not at_limit,
        truncated=at_limit,
        ended_by=line["ended_by"],
        success=line["success"],
        game_metrics=tuple(line["game_metrics"].items()),
    )


def read_episodes(path: Path) -> list[Episode]:
    """The episodes of a file, in order."""
    return [episode_from_json(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
