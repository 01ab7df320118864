"""A canonical answer must be read as the action that it names."""

from __future__ import annotations

import pytest

from msgrpo_cli.errors import UsageError
from msgrpo_cli.evaluation.exact_answers import canonical_answers
from msgrpo_cli.games.frozenlake import FrozenLake
from support.parts import agent, small_model


class Shouting(FrozenLake):
    """Hears upper case alone."""

    def parse(self, text: str) -> str | None:
        return super().parse(text) if text == text.upper() else None


def test_a_game_that_reads_the_bare_answer_otherwise_is_refused() -> None:
    game = Shouting()
    game.reset(seed=0)
    with pytest.raises(UsageError, match=r"Shouting: the answer .* is read as None, not as left"):
        canonical_answers(agent(*small_model()), game)
