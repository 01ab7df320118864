"""The parser under a million strange answers: it raises nothing, and invents no action."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msgrpo_cli.games.frozenlake import FrozenLake
from support.counted import not_hanging

GAME = FrozenLake(slippery=True)
GAME.reset(seed=3)
OWN_TEXT = [GAME.describe(), GAME.describe("compact"), GAME.rules(), *GAME.describe().split()]
TAGS = ["<action>", "</action>", "<ACTION>", "</Action>", "<action", "action>", "</action", "< action>", "<action/>"]
TAGS += [
    "<<action>>",
    "<\u0430ction>",
    "<actıon>",
    "</actİon>",
    "＜action＞",
    "<action >",
    "<think>",
    "</think>",
    "<!--",
    "-->",
]
WORDS = [*GAME.actions, "LEFT", "Up", " down ", "upup", "right,", "lef", "t", "ﬁ", "ᴜᴘ", "l\u200beft", "jump", "1", "-"]
ODD = [
    "",
    " ",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "\x07",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202e",
    "\ufeff",
    "\ud800",
    "🎮",
]
ODD += ["é", "ß", "İ", "K", "中", "א", "\U0010ffff", "&lt;action&gt;", "\\n", "{{", "%s", "'", '"', "`"]
ANSWERS = [f"<action>{word}</action>" for word in WORDS]
PIECES = [*TAGS * 3, *WORDS * 2, *ANSWERS, *ODD, *OWN_TEXT]


def closed(text: str) -> list[str]:
    """What stands between each closing tag and the nearest opening tag before it: the rule, read without patterns."""
    lower = "".join(letter.lower() if letter.isascii() else letter for letter in text)
    found, start = [], 0
    while (end := lower.find("</action>", start)) >= 0:
        opened = lower.rfind("<action>", start, end)
        if opened >= 0:
            found.append(text[opened + len("<action>") : end])
        start = end + len("</action>")
    return found


def check(text: str) -> bool:
    """Whether the parser found an action; AssertionError where it is not what the last closed tag holds."""
    action = GAME.parse(text)
    inside = closed(text)
    word = inside[-1].strip().lower() if inside else ""
    assert action == (word if word in GAME.actions else None), repr(text)
    return action is not None


def storm(seed: int, count: int) -> int:
    """So many strange answers; returns how many of them held an action."""
    rng = random.Random(seed)
    return sum(check("".join(rng.choices(PIECES, k=rng.randrange(9)))) for _ in range(count))


def test_twenty_thousand_strange_answers() -> None:
    assert storm(seed=0, count=20_000) > 100, "some answers must be valid, or the storm proves nothing"


@pytest.mark.slow
def test_a_million_strange_answers() -> None:
    assert storm(seed=1, count=1_000_000) > 5000


@settings(max_examples=500, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6))).map("".join))
def test_any_text_at_all(text: str) -> None:
    check(text)


@given(st.sampled_from(GAME.actions), st.text(), st.sampled_from(["", " ", "\n\t"]))
def test_a_plain_answer_is_read_whatever_stands_before(action: str, before: str, blank: str) -> None:
    assert GAME.parse(f"{before}<action>{blank}{action.title()}{blank}</action>") == action


@pytest.mark.parametrize("text", OWN_TEXT)
def test_the_game_s_own_words_are_no_answer(text: str) -> None:
    assert GAME.parse(text) is None


@pytest.mark.parametrize("piece", ["<action>", "</action>", "<", "<action>left", "<action></action>", " "])
def test_a_long_answer_is_read_once(piece: str) -> None:
    """A parser that goes back for every piece would take hours."""
    with not_hanging():
        assert GAME.parse(piece * 500_000) is None
