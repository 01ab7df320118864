"""The Text-Mediated Stochastic Game: the parser's table and fuzz, counting of steps, and gymnasium's own check."""

from __future__ import annotations

import re
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete, Text
from gymnasium.utils.env_checker import check_env

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.core import Observation, TextMediatedStochasticGame, is_illegal, legal_moves
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.games.registry import make_game
from support.counted import not_hanging

PARSED = {
    "plain": ("<action>up</action>", "up"),
    "capitals": ("<Action>UP</aCTION>", "up"),
    "blanks": ("<action> \t\n right\r\n</action>", "right"),
    "no-break space": ("<action>\u00a0up</action>", "up"),
    "text around": ("<think>hm</think><action>left</action> done", "left"),
    "last of two": ("<action>up</action> no, <action>down</action>", "down"),
    "last is no action": ("<action>up</action><action>fly</action>", None),
    "last is empty": ("<action>up</action><action></action>", None),
    "last is not closed": ("<action>up</action><action>down", "up"),
    "mentioned before": ("I answer in <action> tags: <action>up</action>", "up"),
    "nested": ("<action><action>up</action></action>", "up"),
    "other tag inside": ("<action><b>up</b></action>", None),
    "not closed": ("<action>up", None),
    "closing is broken": ("<action>up</action", None),
    "not opened": ("up</action>", None),
    "wrong way round": ("</action>up<action>", None),
    "attribute": ('<action name="x">up</action>', None),
    "blank in the tag": ("< action>up</ action>", None),
    "only the word": ("up", None),
    "nothing": ("", None),
    "blanks only": ("<action>  </action>", None),
    "two actions": ("<action>up up</action>", None),
    "a longer word": ("<action>upward</action>", None),
    "punctuation": ("<action>up.</action>", None),
    "number": ("<action>3</action>", None),
    "full-width letters": ("<action>ｕｐ</action>", None),
    "zero-width space": ("<action>\u200bup</action>", None),
    "control character": ("<action>u\x00p</action>", None),
    "dotless i in the tag": ("<actıon>up</actıon>", None),
    "dotted capital i in the tag": ("<ACTİON>up</ACTİON>", None),
    "made-up next turn": ("<action>left</action>\nuser\nYou are at (1, 0).", "left"),
    "made-up next answer": ("<action>left</action>\nassistant\n<action>up</action>", "up"),
    "made-up state alone": ("user\nYou are at the goal. You win (reward 1).", None),
}


class Count(TextMediatedStochasticGame):
    """Counts up; reaching three ends it. The state is the number."""

    actions = ("add", "rest")
    number = 0

    def new_game(self, rng: np.random.Generator) -> None:
        self.number = int(rng.integers(1, 3))

    def play(self, action: str) -> tuple[float, str | None]:
        self.number += action == "add"
        return float(self.number), "three" if self.number == 3 else None

    def describe(self, observation: Observation = "full") -> str:
        return str(self.number) if observation == "compact" else f"The number is {self.number}."

    def rules(self) -> str:
        return "Three ends it."

    def state_key(self) -> bytes:
        return bytes([self.number])


def counting_from(number: int, max_steps: int = 3) -> Count:
    game = Count(max_steps)
    game.reset(seed=0)
    game.number = number
    return game


@pytest.mark.parametrize(("text", "action"), PARSED.values(), ids=PARSED)
def test_parser(text: str, action: str | None) -> None:
    assert FrozenLake().parse(text) == action


def test_parser_of_another_game_knows_its_own_actions_only() -> None:
    game = Count(1)
    assert game.parse("<action>rest</action>") == "rest"
    assert game.parse("<action>up</action>") is None


def test_parser_invents_no_action() -> None:
    rng = np.random.default_rng(0)
    tags = ["<action>", "</action>", "<ACTION>", "</Action>"]
    words = ["left", "down", "RIGHT", "up", "Up ", "fly", "\n", " ", ""]
    rubbish = [
        "<action",
        "action>",
        "</",
        "<",
        ">",
        "\t",
        "\x00",
        "\ud7ff",
        "é",
        "\U0001f3d4",
        "ı",
        "İ",
        "\u200b",
        "\u2028",
    ]
    turns = ["user\n", "assistant\n", "You are at (1, 0). Legend: P you", "<think>", "<|im_end|>"]
    pieces = tags * 4 + words * 2 + rubbish + turns
    game = FrozenLake()
    found = []
    for length in rng.integers(0, 24, size=20_000):
        text = "".join(pieces[index] for index in rng.integers(len(pieces), size=length))
        action = game.parse(text)
        found.append(action)
        squeezed = re.sub(r"\s", "", text.lower())
        if action is None:
            assert not re.search(r"<action>\s*(left|down|right|up)\s*</action>[^<]*$", text.lower()), repr(text)
        else:
            assert action in game.actions
            assert f"<action>{action}</action>" in squeezed, repr(text)
    assert {*found} == {None, "left", "down", "right", "up"}
    assert 500 < sum(action is not None for action in found) < 10_000


def test_the_parser_reads_a_long_answer_once() -> None:
    """Where every opening tag is searched to the end of the text, this takes hours; else a tenth of a second."""
    with not_hanging():
        assert FrozenLake().parse("<action>" * 500_000 + "<action>up</action>") == "up"


def test_reset_starts_anew_and_tells_the_whole_state() -> None:
    game = Count(max_steps=5)
    text, info = game.reset(seed=3)
    assert (text, info) == (f"The number is {game.number}.", {})
    first = game.number
    game.step(1)
    assert game.elapsed == 1
    assert game.reset(seed=3)[0] == text
    assert (game.elapsed, game.number) == (0, first)
    assert game.render() == text


def test_steps_are_counted_and_the_limit_truncates() -> None:
    game = counting_from(1)
    assert game.step(1) == ("The number is 1.", 1.0, False, False, {"ended_by": None})
    assert game.step(0) == ("The number is 2.", 2.0, False, False, {"ended_by": None})
    assert game.step(1) == ("The number is 2.", 2.0, False, True, {"ended_by": "step limit"})


def test_an_end_by_the_rules_is_no_truncation_not_even_in_the_last_step() -> None:
    game = counting_from(2, max_steps=1)
    assert game.step(0) == ("The number is 3.", 3.0, True, False, {"ended_by": "three"})
    game = counting_from(2, max_steps=2)
    assert game.step(0) == ("The number is 3.", 3.0, True, False, {"ended_by": "three"})


def test_a_skipped_step_counts_and_changes_nothing_else() -> None:
    game = counting_from(1)
    assert [game.skip(), game.skip(), game.skip()] == [False, False, True]
    assert (game.elapsed, game.number) == (3, 1)
    game = counting_from(1, max_steps=2)
    game.skip()
    assert game.step(0)[3] is True


def test_a_game_declares_nothing_that_it_was_not_given() -> None:
    game = Count(1)
    assert (game.success, game.game_metrics(), game.greedy_action()) == (None, {}, None)
    assert game.initial_states == "many"
    assert game.action_space == Discrete(2)


def test_no_steps_is_no_game() -> None:
    with pytest.raises(ValueError, match="max_steps=0: must be at least 1"):
        Count(0)


@pytest.mark.parametrize("keys", [{}, {"size": 8, "max_steps": 24}, {"p": 0.9, "slippery": True, "max_steps": 15}])
def test_gymnasium_s_own_check_passes(keys: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        game = gymnasium.make("msgrpo/FrozenLake-v0", **keys).unwrapped
        check_env(game, skip_render_check=True)


def test_texts_lie_in_the_observation_space() -> None:
    for size in (2, 4, 10):
        game = FrozenLake(size=size, slippery=True)
        text, _ = game.reset(seed=1)
        assert game.observation_space.contains(text)


@pytest.mark.parametrize("name", ["frozenlake", "snake_8", "sokoban", "guess_number", "minesweeper", "taxi"])
def test_a_game_of_one_move_says_so(name: str) -> None:
    game = make_game(compose("train", [f"env={name}"]).env)
    game.reset(seed=0)
    game.max_steps = 1
    assert re.search(r"\b1 (move|guess|cell)\b", game.rules())
    assert "1 moves" not in game.describe()


class Echo(Count):
    """Free text: says again what it was told."""

    actions = None

    def play(self, action: str) -> tuple[float, str | None]:
        self.told = action
        return 0.0, None


def test_free_text_is_played_as_it_is_parsed() -> None:
    game = Echo(max_steps=3)
    game.reset(seed=0)
    assert isinstance(game.action_space, Text) and game.legal() == () and not game.limits_moves
    assert game.parse("<action>go</action> or <action> Take  the\nKEY </action>") == "take the key"
    assert game.parse("<action> </action>") is None and game.parse("take the key") is None
    game.step("take the key")
    assert game.told == "take the key"
    game.take("go")
    assert (game.told, game.elapsed) == ("go", 2)
    assert not game.lists_moves()
    with pytest.raises(UsageError, match=r"Echo takes free text and legal\(\) lists no move here, but tea must choose"):
        legal_moves(game, "tea")


def test_by_default_every_action_is_a_move() -> None:
    game = FrozenLake()
    game.reset(seed=0)
    assert game.legal() == game.legal_in(game.state()) == legal_moves(game, "tea") == game.actions
    assert not game.limits_moves and is_illegal(game, "up") is None and game.lists_moves()
