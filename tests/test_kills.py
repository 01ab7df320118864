"""Three kills of a real process; `make kill-test` does a hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

from kills import chain, straight


@pytest.mark.slow
def test_a_run_killed_at_three_random_moments_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    reference, duration = straight(tmp_path)
    ended = chain(7, tmp_path, reference, duration, kills=3)
    assert len(ended.kills) == 3 and ended.differences == (), ended
