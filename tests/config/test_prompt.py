"""Worked turns as a config has them: drawn where none are kept, and refused where they cannot be."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.config.prompt import prompt_of, with_example_turns
from msgrpo_cli.config.schema import EnvConfig
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.core import Observation, TextMediatedStochasticGame
from msgrpo_cli.games.registry import make_game

TURNS = "prompt.example_turns=[{game: frozenlake, state: 'P G', action: right}]"


def test_without_examples_nothing_is_drawn() -> None:
    config = compose("train", [])
    assert with_example_turns(config) is config and not any(prompt_of(config).examples.values())


def test_what_is_kept_stays_whatever_the_seed() -> None:
    config = compose("train", ["prompt.examples=2"])
    kept = with_example_turns(config)
    turns = kept.prompt.example_turns
    assert turns and [turn.game for turn in turns] == ["frozenlake"] * 2
    later = kept.model_copy(update={"seed": 7})
    assert with_example_turns(later) is later and prompt_of(later) == prompt_of(config)
    assert prompt_of(config.model_copy(update={"seed": 7})) != prompt_of(config)


def test_another_game_gets_its_own() -> None:
    kept = with_example_turns(compose("train", ["prompt.examples=1"]))
    other = kept.model_copy(update={"env": compose("train", ["env=snake_8"]).env})
    turns = with_example_turns(other).prompt.example_turns
    assert turns and [turn.game for turn in turns] == ["frozenlake", "snake_8"]
    game = make_game(other.env)
    game.reset(seed=0)
    messages = prompt_of(other).messages(game, game.describe("compact"))
    assert [role for role, _ in messages] == ["user", "assistant", "user"] and messages[0][1] == turns[1].state


def test_each_game_of_a_mixture_is_shown_its_own() -> None:
    config = compose("train", ["env=mix", "env.games=[frozenlake,snake_8]", "prompt.examples=2"])
    turns = with_example_turns(config).prompt.example_turns
    assert turns and [turn.game for turn in turns] == ["frozenlake"] * 2 + ["snake_8"] * 2
    game, seen = make_game(config.env), set()
    for seed in range(20):
        game.reset(seed=seed)
        first, *_ = prompt_of(config).messages(game, game.describe("compact"))
        own = [turn.state for turn in turns if turn.game == game.label]
        assert first == ("user", own[0])
        seen.add(game.label)
    assert seen == {"frozenlake", "snake_8"}


def test_turns_of_ones_own_are_shown_as_they_are() -> None:
    config = compose("train", ["prompt.examples=1", TURNS])
    assert prompt_of(config).examples == {"": [("P G", "right")]}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["env=minesweeper", "prompt.examples=2", "prompt.examples_by=optimal"],
         r"prompt.examples_by=optimal: minesweeper has no such player; it has random"),
        (["prompt.examples=500", "env.size=2", "rollout.max_prompt_tokens=9000"],
         r"prompt.examples=500: of frozenlake only \d+ different states"),
        (["prompt.examples=2", TURNS], r"holds 1 of frozenlake in example_turns where examples=2"),
        (["prompt.examples_by=optimal"], r"prompt.examples_by=optimal: .*prompt.examples=0"),
        ([TURNS], r"example_turns"),
        (["prompt.examples=1", "prompt.examples_by=optimal", TURNS], r"examples_by=optimal: .*shown as they are"),
        (["prompt.examples=-1"], r"prompt.examples"),
        (["prompt.examples_by=best"], r"prompt.examples_by"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_its_key(overrides: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        compose("train", overrides)


class Speech(TextMediatedStochasticGame):
    """Takes any words and lists none, so that nobody is known who plays it."""

    actions = None

    def __init__(self, max_steps: int = 3) -> None:
        super().__init__(max_steps)

    def new_game(self, rng: np.random.Generator) -> None: ...

    def play(self, action: str) -> tuple[float, str | None]:
        return 0.0, None

    def describe(self, observation: Observation = "full") -> str:
        return "speak"

    def rules(self) -> str:
        return "Speak."

    def state_key(self) -> bytes:
        return b""


def test_a_game_that_nobody_plays_asks_for_the_turns_themselves() -> None:
    gymnasium.register("me/Speech-v0", entry_point=Speech)
    config = compose("train", ["prompt.examples=1"])
    speech = config.model_copy(update={"env": EnvConfig(name="speech", id="me/Speech-v0", max_steps=3)})
    with pytest.raises(
        UsageError, match=r"^prompt\.examples_by=greedy: speech has no player; give the turns \(prompt\."
    ):
        with_example_turns(speech)
