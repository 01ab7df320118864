"""Episodes as lines of JSON, and back: all of a file, or one at a time where it is larger than memory.

Knows the lines of episodes.jsonl and their offsets. Knows nothing about run directories, models, or which episodes are
wanted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgrpo_cli.common.files import refuse_newer
from msgrpo_cli.episode import SELF, Completion, Episode, Seat, Start, Step
from msgrpo_cli.errors import UsageError

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
    if episode.seats:
        return table_to_json(episode, kind=kind, update=update, split=split)
    differ = len(set(step_advantages)) > 1
    of_steps = [{"advantage": float(value)} for value in step_advantages] if differ else [{}] * len(episode.steps)
    return {
        **_line(episode, kind, update, split),
        "total_reward": episode.total_reward,
        "success": episode.success,
        "ended_by": episode.ended_by,
        "game_metrics": dict(episode.game_metrics),
        "advantage": advantage,
        "drawn": drawn,
        "steps": [{**row, **own} for row, own in zip(_steps(episode), of_steps, strict=True)],
    }


def _line(episode: Episode, kind: str, update: int | None, split: str) -> dict[str, Any]:
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
    }


def _steps(episode: Episode) -> list[dict[str, Any]]:
    return [
        {
            "t": t,
            "observation": step.observation,
            "completion": step.completion.text,
            "action": step.action,
            "valid": step.valid,
            "reward": step.reward,
            "optimal_action": step.optimal_action,
            "regret": step.regret,
            **({} if step.illegal is None else {"illegal": step.illegal}),
        }
        for t, step in enumerate(episode.steps)
    ]


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
            illegal=step.get("illegal"),
            seat=step.get("seat", 0),
        )
        for step in line["steps"]
    )
    at_limit = line["ended_by"] == "step limit"
    seats = tuple(Seat(had["player"], had["total_reward"], had["success"]) for had in line.get("seats", ()))
    return Episode(
        env=line["env"],
        start=Start(line["seed"], line["group"], line["member"], (), tuple(had.player for had in seats)),
        steps=steps,
        terminated=not at_limit,
        truncated=at_limit,
        ended_by=line["ended_by"],
        success=line["success"],
        game_metrics=tuple(line["game_metrics"].items()),
        seats=seats,
        began=first_key if seats else None,
    )


def read_episodes(path: Path) -> list[Episode]:
    """The episodes of a file, in order."""
    return [episode_from_json(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


Row = dict[str, Any]
_OF_EPISODE = (
    "update", "split", "env", "seed", "group", "member", "total_reward", "success", "ended_by", "advantage", "drawn",
    "steps",
)  # fmt: skip
_OF_STEP = ("t", "observation", "completion", "action", "valid", "reward", "optimal_action", "regret")


@dataclass(frozen=True, slots=True)
class TrainedPair:
    """What training made of one (episode, seat) pair."""

    seat: int
    advantage: float
    """The mean of its steps'."""
    step_advantages: Sequence[float]
    drawn: bool


def table_to_json(
    episode: Episode, *, kind: str, update: int | None, split: str, trained: Sequence[TrainedPair] = ()
) -> dict[str, Any]:
    """One line for a whole episode of several players: `seats` holds what each seat had, each step its `seat`.

    `total_reward` is the mean over the seats where `self` sits, null where there is none; an episode is drawn where one
    of its pairs is, and advantages belong to seats alone.
    """
    own = [had.total_reward for had in episode.seats if had.player == SELF]
    of_seat = {pair.seat: pair for pair in trained}
    line = {
        **_line(episode, kind, update, split),
        "total_reward": sum(own) / len(own) if own else None,
        "success": None,
        "ended_by": episode.ended_by,
        "game_metrics": dict(episode.game_metrics),
        "advantage": None,
        "drawn": any(pair.drawn for pair in trained) if trained else None,
        "seats": [
            {
                "player": had.player,
                "total_reward": had.total_reward,
                "success": had.success,
                "advantage": of_seat[seat].advantage if seat in of_seat else None,
                "drawn": of_seat[seat].drawn if seat in of_seat else None,
            }
            for seat, had in enumerate(episode.seats)
        ],
    }
    steps = _steps(episode)
    for seat, pair in of_seat.items():
        if len(set(pair.step_advantages)) > 1:
            places = [number for number, step in enumerate(episode.steps) if step.seat == seat]
            for number, advantage in zip(places, pair.step_advantages, strict=True):
                steps[number]["advantage"] = float(advantage)
    return {**line, "steps": [{**row, "seat": step.seat} for row, step in zip(steps, episode.steps, strict=True)]}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an episode lies."""

    number: int
    """Of its line, from 1."""
    offset: int
    """Of its first byte."""


@dataclass
class EpisodeFile:
    """The episodes of one file. While a run goes on its last line may be half written; then it does not count."""

    path: Path
    complaint: str | None = field(default=None, init=False)
    """After `scan`: what was met before the end of the file."""

    def scan(self) -> Iterator[tuple[Place, Row]]:
        """Every episode in order. Raises UsageError where there is no file, or a line that is no episode."""
        offset = 0
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    try:
                        row = json.loads(line)
                    except ValueError:
                        if line.endswith(b"\n"):
                            self.complaint = f"{self.path}: line {number} is damaged; what follows it is left out"
                        return
                    yield Place(number, offset), self._checked(row, number)
                    offset += len(line)
        except FileNotFoundError:
            raise UsageError(f"{self.path}: no such file") from None

    def at(self, place: Place) -> Row:
        """The episode at a place. Raises UsageError where it is no longer there."""
        try:
            with self.path.open("rb") as file:
                file.seek(place.offset)
                return self._checked(json.loads(file.readline()), place.number)
        except (OSError, ValueError):
            raise UsageError(f"{self.path}: line {place.number} is no longer there; replay once more") from None

    def _checked(self, row: Any, number: int) -> Row:
        if not isinstance(row, dict):
            raise UsageError(f"{self.path}: line {number} is no episode")
        refuse_newer(self.path, row.get("schema", 0), SCHEMA)
        missing = [name for name in _OF_EPISODE if name not in row]
        steps = row.get("steps")
        if not missing and isinstance(steps, list):
            missing = [f"steps.{name}" for step in steps for name in _OF_STEP if name not in step]
        if missing or not isinstance(steps, list) or not steps:
            raise UsageError(f"{self.path}: line {number} is no episode: it has no {(missing or ['steps'])[0]}")
        return row
