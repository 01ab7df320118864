"""One rollout phase: which groups are played, and what per-step advantages make of rows and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from msgrpo_cli.algo.batching import step_rows
from msgrpo_cli.algo.credit import CREDITS
from msgrpo_cli.episode import Completion
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.rollout.collect import PlayedUpdate, UpdateRules, means, play_update, rollout_metrics
from msgrpo_cli.rollout.play import Decision, PlayRules
from msgrpo_cli.rollout.players import RandomPlayer
from support.planted_games import Fenced


def pond() -> FrozenLake:
    """Small enough that a random player sometimes wins, and often all of a group of two end alike."""
    return FrozenLake(size=2, p=1.0, max_steps=4)


def played(update: int = 1, game: Any = pond, **rules: Any) -> PlayedUpdate:
    settings: dict[str, Any] = {"seed": 3, "groups_per_update": 6, "group_size": 2, "episode_sampling": "all", **rules}
    return play_update(update, UpdateRules(**settings), game, RandomPlayer(), PlayRules("pond"))


def groups_of(update: PlayedUpdate) -> list[int]:
    return [episode.start.group for episode in update.episodes[::2]]


def test_dynamic_plays_further_groups_until_enough_differ() -> None:
    plain, dynamic = played(), played(episode_sampling="dynamic", most_groups=60)
    differ = [
        first.total_reward != second.total_reward for first, second in zip(*[iter(dynamic.episodes)] * 2, strict=True)
    ]
    assert dynamic.episodes[:12] == plain.episodes, "the first groups are those of every other sampling"
    assert 0 < sum(differ[:6]) < 6, "some of them must be replaced"
    assert sum(differ) == 6
    assert groups_of(dynamic) == list(range(len(differ))), "no group twice, none skipped"
    assert dynamic.draw.drawn_E.reshape(-1, 2).all(axis=1).tolist() == differ
    assert rollout_metrics(dynamic)["episodes_drawn"] == 12
    assert rollout_metrics(dynamic)["episodes_played"] == len(dynamic.episodes)
    assert rollout_metrics(dynamic)["zero_advantage_groups"] == pytest.approx(1 - np.mean(differ))


@pytest.mark.parametrize("most", [6, 7, 8])
def test_dynamic_is_bounded(most: int) -> None:
    def hopeless() -> FrozenLake:
        return FrozenLake(size=4, max_steps=2)

    update = played(game=hopeless, episode_sampling="dynamic", most_groups=most)
    assert groups_of(update) == list(range(most))
    assert not update.trained


def test_other_samplings_play_as_many_groups_as_were_asked_for() -> None:
    for sampling in ("all", "uniform", "absolute_advantage", "variance_filter"):
        assert groups_of(played(episode_sampling=sampling, sample_fraction=0.5, most_groups=60)) == list(range(6))


def test_every_step_of_a_drawn_episode_is_trained_with_its_own_advantage() -> None:
    update = played(credit="return_to_go", credit_rules=CREDITS["return_to_go"].rules("group", gamma=0.5))
    assert any(len(set(values)) > 1 for values in update.advantages)
    rows = step_rows(update.trained)
    assert [row.advantage for row in rows] == [float(value) for values in update.advantages for value in values]
    weights = [np.abs(values).mean() for values in update.advantages]
    assert update.abs_advantage_E == pytest.approx(np.array(weights))
    assert rollout_metrics(update)["abs_advantage_pool"] == pytest.approx(np.mean(weights))


def test_the_correction_of_the_draw_goes_into_every_step() -> None:
    drawing = {"episode_sampling": "absolute_advantage", "sample_fraction": 0.25}
    update = played(group_size=8, sampling_correction="inverse_probability", **drawing)
    factors = {float(factor) for factor in update.draw.factor_E[update.draw.drawn_E]}
    assert factors != {1.0}
    drawn = [number for number, taken in enumerate(update.draw.drawn_E) if taken]
    for number, (episode, advantage_T) in zip(drawn, update.trained, strict=True):
        assert episode is update.episodes[number]
        assert advantage_T.tolist() == (update.advantages[number] * update.draw.factor_E[number]).tolist()


def test_drawing_follows_the_mean_absolute_advantage_of_the_steps() -> None:
    """An episode whose steps cancel each other is drawn all the same."""
    rules = CREDITS["return_to_go"].rules("group", baseline_scope="group_and_time")
    update = played(
        credit="return_to_go", credit_rules=rules, episode_sampling="absolute_advantage", sample_fraction=1.0
    )
    assert update.draw.drawn_E.tolist() == (update.abs_advantage_E > 0).tolist()
    assert 0 < update.draw.drawn_E.sum() < 12


def test_a_shared_advantage_is_exactly_that_of_the_episode() -> None:
    third = 1 / 3
    assert means([np.full(3, third), np.array([1.0, 2.0])]).tolist() == [third, 1.5]


class Leftwards:
    """Answers left, which is illegal at the left edge, every second time; nothing in between."""

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        return [Completion("left", "left" if int(one.key[-1]) % 2 == 0 else None) for one in decisions]  # type: ignore[arg-type]


def test_illegal_answers_are_counted_where_moves_are_limited() -> None:
    def limited() -> Fenced:
        return Fenced(size=2, p=1.0, max_steps=2)

    rules = UpdateRules(seed=3, groups_per_update=2, group_size=2, episode_sampling="all")
    told = rollout_metrics(play_update(1, rules, limited, Leftwards(), PlayRules("pond", invalid_action="noop")))
    assert (told["valid_action_rate"], told["illegal_action_rate"]) == (0.0, 0.5)
    assert list(told).index("illegal_action_rate") == list(told).index("valid_action_rate") + 1
    assert "illegal_action_rate" not in rollout_metrics(played())
