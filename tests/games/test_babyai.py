"""Levels of BabyAI, the real ones: what is seen in words, rewards, hidden progress, and BabyAI's own player."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("minigrid")

from msgrpo_cli.common.jsonl import read_lines
from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.registry import GameBlock, make_game
from msgrpo_cli.rollout.game_check import CHECKS, _result


def level(game: str = "BabyAI-GoToRedBallGrey-v0", max_steps: int = 1000) -> Any:
    return make_game(GameBlock("babyai", "msgrpo/BabyAI-v0", {"game": game, "max_steps": max_steps}))


def emptied(game: Any) -> Any:
    """Nothing inside the walls; the agent in the middle of the room of 6 by 6, looking up."""
    game.reset(seed=0)
    for x in range(1, 7):
        for y in range(1, 7):
            game.level.grid.set(x, y, None)
    game.level.agent_pos, game.level.agent_dir = (3, 4), 3
    return game


def seen(game: Any, action: str = "turn left", back: str = "turn right") -> list[str]:
    """The text after a move and one back, which look again."""
    game.take(action)
    game.take(back)
    return str(game.describe()).splitlines()


def test_what_is_ahead_left_and_right_is_said_by_distance() -> None:
    from minigrid.core.world_object import Ball, Box, Door, Key, Wall

    game = emptied(level())
    assert seen(game) == [
        "Task: go to the red ball.",
        "You carry nothing.",
        "You see nothing.",
        "Walls: 4 steps forward; 3 steps left.",
    ], "the wall on the right is four steps away, and the view three wide"
    for place, thing in {
        (3, 3): Key("blue"),
        (2, 4): Ball("green"),
        (5, 1): Box("purple"),
        (4, 2): Door("red", is_open=True),
        (2, 2): Door("grey", is_locked=True),
        (6, 4): Wall(),
        (3, 5): Ball("red"),
    }.items():
        game.level.grid.set(*place, thing)
    assert seen(game)[2:] == [
        "You see a green ball 1 step left; a blue key 1 step forward; a locked grey door 2 steps forward and 1 step "
        "left; an open red door 2 steps forward and 1 step right; a purple box 3 steps forward and 2 steps right.",
        "Walls: 3 steps right.",
    ], "nothing behind, and no wall behind a thing"
    assert game.describe("compact") == (
        "go to the red ball. carry nothing. see green ball 1 left; blue key 1 forward; locked grey door 2 forward 1 "
        "left; open red door 2 forward 1 right; purple box 3 forward 2 right; wall 3 right."
    )
    game.take("pick up")
    assert game.describe().splitlines()[1] == "You carry a blue key."
    game.take("drop")
    assert game.describe().splitlines()[1] == "You carry nothing."


def test_rewards_are_the_level_s_own_and_tell_the_time() -> None:
    game = level()
    game.reset(seed=2)
    assert "worth 1 - 0.9 t / 64. You have at most 64 moves." in game.rules()
    game.skip()  # an answer that is not played
    assert game.take(game.greedy_action())[1:4] == (0.0, False, False)
    _, reward, terminated, truncated, info = game.take(game.greedy_action())
    assert (reward, terminated, truncated) == (pytest.approx(1 - 0.9 * 3 / 64), True, False)
    assert info["ended_by"] == "done" and game.success
    before = game.state_key()
    game.elapsed += 1
    assert game.state_key() != before


@pytest.mark.parametrize(("asked", "limit"), [(10, 10), (1000, 64)])
def test_the_smaller_limit_holds(asked: int, limit: int) -> None:
    game = level(max_steps=asked)
    game.reset(seed=0)
    assert f"at most {limit} moves" in game.rules()
    ended = [game.take("turn left")[2:4] for _ in range(limit)]
    assert ended == [(False, False)] * (limit - 1) + [(False, True)] and not game.success


def test_a_mission_that_can_fail_ends_without_reward() -> None:
    game = level("BabyAI-OpenDoorsOrderN2Debug-v0")
    ends = set()
    for seed in range(8):
        game.reset(seed=seed)
        over, reward = False, 0.0
        while not over:
            _, reward, over, _, info = game.take(game.greedy_action())
        ends.add((info["ended_by"], reward > 0, game.success))
    assert ends == {("failed", False, False), ("done", True, True)}


def test_what_of_a_task_is_done_is_in_the_key_alone() -> None:
    """Two ways to stand before the second door: through the first, and not."""
    game = level("BabyAI-GoToSeqS5R2-v0")
    found = []
    for seed in range(40):
        game.reset(seed=seed)
        if "after you" in game.level.mission or ", then" in game.level.mission:
            part = game.level.instrs
            text, key = game.describe(), game.state_key()
            part.a_done = part.b_done = "success"
            found.append((game.describe() == text, game.state_key() == key))
    assert len(found) > 3 and set(found) == {(True, False)}


@pytest.mark.parametrize(
    "name",
    ["BabyAI-UnlockToUnlock-v0", "BabyAI-PickupLoc-v0", "BabyAI-BossLevel-v0", "BabyAI-PutNextLocalS5N3-v0"],
)
def test_the_bot_plays_on_from_where_others_moves_led(name: str) -> None:
    """In UnlockToUnlock its plan of seed 1 goes in circles: minigrid's own would never come back."""
    game = level(name)
    game.reset(seed=1)
    for action in ("go forward", "toggle", "turn right", "pick up", "drop", "turn left"):
        game.take(action)
    over = False
    while not over and game.elapsed < 300:
        _, _, over, *_ = game.take(game.greedy_action())
    assert game.success


def test_a_bot_that_is_asked_late_has_seen_what_one_saw_that_was_asked_at_every_move() -> None:
    game, other = level("BabyAI-GoToObjMazeS4-v0"), level("BabyAI-GoToObjMazeS4-v0")
    for one in (game, other):
        one.reset(seed=3)
    moves = []
    for _ in range(12):
        moves.append(game.greedy_action())
        game.take(moves[-1])
        other.take(moves[-1])
    assert game.greedy_action() == other.greedy_action() and len(set(moves)) > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "checks"),
    [
        ("BabyAI-UnlockLocal-v0", ["physics", "gymnasium"]),
        pytest.param("BabyAI-GoToSeqS5R2-v0", ["state key", "renderer", "physics"], marks=pytest.mark.slow),
        pytest.param("BabyAI-PutNextLocalS5N3-v0", ["state key", "renderer", "physics"], marks=pytest.mark.slow),
    ],
)
def test_other_levels_keep_their_promises(name: str, checks: list[str]) -> None:
    env = compose("train", ["env=babyai", f"env.game={name}", "env.max_steps=8"]).env
    found = [_result(check, CHECKS[check], env) for check in checks]
    assert [(check.name, check.detail) for check in found if not check.passed] == []


def test_a_level_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="no level of that name; did you mean 'BabyAI-GoToRedBall-v0'"):
        compose("train", ["env=babyai", "env.game=BabyAI-GoToRedBal-v0"])


def test_without_minigrid_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "minigrid", None)
    with pytest.raises(UsageError, match=r"needs minigrid: pip install 'msgrpo\[minigrid\]'"):
        compose("train", ["env=babyai"])


@pytest.mark.slow
def test_two_updates_on_it(tmp_path: Path) -> None:
    """By a model of random weights that writes letters; random moves are played in place of what it says."""
    pytest.importorskip("torch")
    from msgrpo_cli.training.train import train_job
    from support.small_qwen import small_qwen

    small_qwen(tmp_path / "letters")
    overrides = [
        *("env=babyai", "env.max_steps=8", "model=any", f"model.path={tmp_path / 'letters'}", "trainer.use_cpu=true"),
        *("rollout=short", "rollout.max_new_tokens=4", "rollout.max_prompt_tokens=2000", "prompt=action_only"),
        *("algo.groups_per_update=2", "algo.group_size=4", "eval.episodes=4", "eval.every=0", "max_updates=2"),
        "algo.invalid_action=random",
    ]
    train_job(compose("train", overrides), tmp_path / "run", command=["test"], overrides=overrides)
    rows = list(read_lines(tmp_path / "run" / "episodes.jsonl"))
    assert {row["update"] for row in rows} == {1, 2} and len(rows) == 16
    assert all(1 <= len(row["steps"]) <= 8 for row in rows)
    starts = {(row["group"], row["steps"][0]["observation"]) for row in rows if row["update"] == 1}
    assert len(starts) == 2, "a group shares its start"
    assert not any(step["valid"] for row in rows for step in row["steps"]), "what it says is no action"
    assert len({step["observation"] for row in rows for step in row["steps"]}) > 8, "and yet it moves"
