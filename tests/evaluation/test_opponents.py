"""A saved checkpoint as an opponent inside Snake, and on a seat of another game."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from msgrpo_cli.common.seeding import generator
from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.evaluation.opponents import SeatedCheckpoint, checkpoint_opponent
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.games.snake.game import Snake
from msgrpo_cli.rollout.play import Decision
from msgrpo_cli.rollout.players import RandomPlayer
from msgrpo_cli.training.train import train_job


@pytest.fixture(scope="module")
def opponent(finished_run: Path) -> str:
    return str(sorted((finished_run / "checkpoints").glob("checkpoint-*"))[-1])


def episode(opponent: str, seed: int) -> list[tuple[object, ...]]:
    game = Snake(opponent=opponent, max_steps=6)
    game.reset(seed=seed)
    game.np_random = generator(("opponent", seed))
    played = []
    for _ in range(6):
        _, reward, terminated, truncated, _ = game.step(0)
        played.append((reward, game.state_key()))
        if terminated or truncated:
            break
    return played


def test_an_episode_against_a_checkpoint_repeats(opponent: str) -> None:
    assert [episode(opponent, seed) for seed in range(3)] == [episode(opponent, seed) for seed in range(3)]


def test_it_moves_as_the_checkpoint_answers(opponent: str) -> None:
    game = Snake(opponent=opponent)
    game.reset(seed=1)
    moves = {checkpoint_opponent(opponent)(game.seen_by(1), generator(("moves", n))) for n in range(20)}
    assert moves <= set(game.actions) and moves
    game.np_random = generator(("same", 1))
    expected = checkpoint_opponent(opponent)(game.seen_by(1), generator(("same", 1)))
    assert game._opponent_move(1) == expected


def test_it_sees_itself_as_the_own_snake() -> None:
    game = Snake(opponents=2, size=8)
    game.reset(seed=0)
    view = game.seen_by(2)
    assert view.bodies == [game.bodies[2], game.bodies[0], game.bodies[1]]
    assert f"Your snake: head at {game.bodies[2][0]}" in view.describe()
    assert f"Your snake: head at {game.bodies[0][0]}" in game.describe()


def test_a_run_trains_against_a_checkpoint(tmp_path: Path, opponent: str) -> None:
    overrides = ["experiment=smoke", "env=snake_8", f"env.opponent='{opponent}'", "eval.every=0", "eval.episodes=2"]
    overrides += ["max_updates=1", "algo.groups_per_update=1", "env.max_steps=4"]  # it answers one move after another
    config = compose("train", overrides)
    assert isinstance(make_game(config.env), Snake)
    result = train_job(config, tmp_path / "run", command=["msgrpo", "train"], overrides=overrides)
    assert result["status"] == "done"


def test_a_checkpoint_that_reads_a_history_is_no_opponent(opponent: str, tmp_path: Path) -> None:
    copy = shutil.copytree(opponent, tmp_path / "checkpoint-3")
    metadata = json.loads((copy / "msgrpo.json").read_text())
    metadata["prompt"]["history"] = 2
    (copy / "msgrpo.json").write_text(json.dumps(metadata))
    with pytest.raises(UsageError, match=r"prompt\.history=2; an opponent sees no history"):
        checkpoint_opponent(str(copy))


def test_a_checkpoint_of_another_game_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """It may sit there, and what it says may be nothing that can be played."""
    game = FrozenLake()
    game.reset(seed=1)
    asked = [Decision(game, "", ("seat", number)) for number in range(2)]
    for actions, lines in ((game.actions, 0), (("hit", "stick"), 1)):
        seated = SeatedCheckpoint(RandomPlayer(), "compact", "runs/other", actions)
        assert len(seated.act(asked)) == len(seated.act(asked)) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == lines and all("runs/other: was trained in a game with other actions" in one for one in said)
