"""A game as `msgrpo env show` tells it."""

from __future__ import annotations

from typing import Any

import pytest

from msgrpo_cli.planning.preview import as_text

FOUND: dict[str, Any] = {
    "env": "mix", "id": "msgrpo/Mix-v0", "model": "tiny", "messages": [], "prompt": "", "prompt_tokens": 3,
    "answer_prefix": None, "unknown_tokens": 0, "max_prompt_tokens": 64, "episode": [], "total_reward": 0.0,
    "ended_by": "limit",
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "typed"),
    [
        (False, "false"),
        (None, "null"),
        (0.8, "0.8"),
        ("a word", "a word"),
        ("first line\nsecond", "first line ..."),
        ([1, 2], "[1,2]"),
        ([{"name": "frozenlake", "size": 4}, {"name": "taxi"}], "[frozenlake,taxi]"),
        ({}, "{}"),
    ],
)
def test_keys_are_told_as_one_would_type_them(value: object, typed: str) -> None:
    assert f"  env.key={typed}" in as_text({**FOUND, "keys": {"key": value}}).splitlines()
