"""Episodes as lines of JSON: every field is there, and reading gives back what was written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from msgrpo_cli.common.jsonl import append_lines
from msgrpo_cli.episode import Completion, Episode, Start, Step
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.rollout.play import PlayRules, play_episodes
from msgrpo_cli.rollout.players import ExactPlayer, RandomPlayer
from msgrpo_cli.runs.episodes import episode_from_json, episode_to_json, read_episodes

EPISODE = Episode(
    env="snake_8",
    start=Start(seed=2**53 - 1, group=3, member=2, key=(0, 7, 3, 2)),
    steps=(
        Step(
            observation="P .\n. G",
            completion=Completion(
                "hm\u2028 <action>Up</action> é", "up", (3, 4), (6, 12, 7, 5), (-0.1, -0.2, 0.0, 0.0)
            ),
            action="up",
            reward=0.1,
            state_key=b"\x00\xff@0",
            optimal_action="right",
            regret=0.25,
        ),
        Step("P .\n. G", Completion("nothing", None), "left", -1.0, b"\x00\xff@0"),
        Step("", Completion("", None), None, -1.0, b""),
    ),
    terminated=True,
    truncated=False,
    ended_by="wall",
    success=None,
    game_metrics=(("apples", 2.0), ("length", 3.0)),
)


def test_fields_of_a_line() -> None:
    line = episode_to_json(
        EPISODE, kind="train", update=7, split="train", advantage=-0.5, step_advantages=[-0.5] * 3, drawn=True
    )
    steps = line.pop("steps")
    assert line == {
        "schema": 1,
        "kind": "train",
        "update": 7,
        "split": "train",
        "env": "snake_8",
        "seed": 9007199254740991,
        "state_key": "00ff4030",
        "group": 3,
        "member": 2,
        "total_reward": -1.9,
        "success": None,
        "ended_by": "wall",
        "game_metrics": {"apples": 2.0, "length": 3.0},
        "advantage": -0.5,
        "drawn": True,
    }
    assert steps[0] == {
        "t": 0,
        "observation": "P .\n. G",
        "completion": "hm\u2028 <action>Up</action> é",
        "action": "up",
        "valid": True,
        "reward": 0.1,
        "optimal_action": "right",
        "regret": 0.25,
    }
    assert [(step["t"], step["action"], step["valid"]) for step in steps[1:]] == [(1, "left", False), (2, None, False)]


def test_an_evaluated_episode_has_no_advantage() -> None:
    line = episode_to_json(EPISODE, kind="eval", update=None, split="test")
    assert (line["kind"], line["update"], line["advantage"], line["drawn"]) == ("eval", None, None, None)


def test_steps_hold_their_advantages_where_they_differ() -> None:
    own = [-0.5, 0.25, 1.0]
    line = episode_to_json(EPISODE, kind="train", update=7, split="train", advantage=0.25, step_advantages=own)
    assert line["advantage"] == 0.25
    assert [step["advantage"] for step in line["steps"]] == own
    assert episode_from_json(line) == as_logged(EPISODE)


def as_logged(episode: Episode) -> Episode:
    """Without what a line does not hold: token ids, the key, and the state keys of later steps."""
    return replace(
        episode,
        start=replace(episode.start, key=()),
        steps=tuple(
            replace(
                step,
                completion=Completion(step.completion.text, step.completion.action),
                state_key=b"" if t else step.state_key,
            )
            for t, step in enumerate(episode.steps)
        ),
    )


def test_reading_a_line_gives_the_episode_back() -> None:
    line = json.loads(json.dumps(episode_to_json(EPISODE, kind="eval", update=1, split="test"), allow_nan=False))
    assert episode_from_json(line) == as_logged(EPISODE)


def test_a_file_of_played_episodes_gives_them_back(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    starts = [Start(number, number, 0, (0, "eval", number, 0)) for number in range(60)]

    def lake() -> FrozenLake:
        return FrozenLake(p=0.9, slippery=True, max_steps=10)

    episodes = play_episodes(starts, lake, RandomPlayer(), PlayRules(env="lake"), ExactPlayer())
    for half in (episodes[:25], episodes[25:]):
        append_lines(path, [episode_to_json(episode, kind="eval", update=0, split="any") for episode in half])
    assert {episode.ended_by for episode in episodes} == {"goal", "hole", "step limit"}
    assert read_episodes(path) == [as_logged(episode) for episode in episodes]
    assert path.read_bytes().count(b"\n") == 60


def test_odd_line_breaks_in_an_answer_do_not_break_lines(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    append_lines(path, [episode_to_json(EPISODE, kind="train", update=1, split="train")] * 2)
    assert read_episodes(path) == [as_logged(EPISODE)] * 2


def test_whether_an_answer_was_illegal_is_kept_where_it_is_known() -> None:
    first, second, *others = EPISODE.steps
    limited = replace(EPISODE, steps=(replace(first, illegal=False), replace(second, illegal=True), *others))
    line = json.loads(json.dumps(episode_to_json(limited, kind="train", update=1, split="train")))
    assert [step.get("illegal") for step in line["steps"]] == [False, True, None]
    assert "illegal" not in line["steps"][2]
    assert [step.illegal for step in episode_from_json(line).steps] == [False, True, None]
